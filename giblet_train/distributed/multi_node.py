"""Run one node's part of a multi-node run: meet the other nodes, start torchrun together, end together.

A failure is reported to every node, and all agree on the first one: on the other nodes torchrun only prints that their
peers are gone. Uses only the standard library and records, because it starts before torch and ends after it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import msgspec
from msgspec.structs import replace

from giblet_train.distributed.first_failure import TAIL_BYTES, first_failure
from giblet_train.distributed.node_link import Message, NodeLink, free_port, interface_of
from giblet_train.distributed.slurm_step import VARIABLE as SLURM_VARIABLE
from giblet_train.distributed.slurm_step import with_job_nodes
from giblet_train.schema.errors import FAILED, PREEMPTED, ConfigError
from giblet_train.schema.records import NodeFailure, Rendezvous, Run
from giblet_train.schema.run_dir import RunDir, write_record

JOIN_LIMIT_S = 180.0
"""Time limit for all nodes to connect; a session and an interpreter have to start on each."""
OWN_END_S = 5.0
"""After another node failed, this node's ranks get this long to notice by themselves before they are terminated."""
AGREE_LIMIT_S = 6.0
ECHO_LIMIT_S = 30.0
"""Where this node only lost another one, whose own failure is the cause: torchrun may notice it seconds later."""
_POLL_S = 0.1


def join(run_dir: RunDir) -> int:
    """Run this node's part. Returns the exit code: 0 done or stopped, 75 terminated, else torchrun's, or 1.

    Raises ConfigError if run.json names only one node.
    """
    run = with_job_nodes(run_dir.read_run(), os.environ)
    if run.rendezvous is None or len(run.nodes) < 2:
        raise ConfigError(f"{run.run_id} is a run of one node.", f"python -m giblet_train train {run_dir.path}")
    return _NodeProcess(run_dir, run, run.rendezvous).execute()


def torchrun_argv(python: str, run_dir: RunDir, run: Run, rendezvous: Rendezvous, port: int) -> list[str]:
    """Return torchrun's command line on one node. Its files are below `ranks`, by node where nodes share the directory.

    The static rendezvous keeps a c10d store on the first node and uses the node ranks given here. The dynamic one would
    rank nodes by the text of their addresses, but rank 0 must be the node with the records.
    """
    place = ["--nnodes", str(len(run.nodes)), "--node-rank", str(run.node_rank)]
    where = ["--rdzv-backend", "static", "--master-addr", rendezvous.address, "--master-port", str(port)]
    ranks = ["--nproc-per-node", str(rendezvous.n_processes), "--tee", "3", "--log-dir", str(own_ranks(run_dir, run))]
    torchrun = ["-m", "torch.distributed.run", *place, *where, "--rdzv-id", run.run_id, "--max-restarts", "0"]
    return [python, *torchrun, *ranks, "-m", "giblet_train", "train", str(run_dir.path)]


def own_ranks(run_dir: RunDir, run: Run) -> Path:
    """Return where torchrun writes the files of this node's ranks. The nodes of a Slurm job share the run directory."""
    return run_dir.ranks / f"node-{run.node_rank}" if SLURM_VARIABLE in os.environ else run_dir.ranks


class _NodeProcess:
    """State of the run's other nodes, and this node's torchrun."""

    def __init__(self, run_dir: RunDir, run: Run, rendezvous: Rendezvous) -> None:
        self.run_dir, self.run, self.rendezvous = run_dir, run, rendezvous
        self.causes: list[NodeFailure] = []
        self.agreed: NodeFailure | None = None
        self.quiet: set[int] = set()
        self.ending = False
        self.port: int | None = None
        self.meeting: NodeLink | None = None
        self.stop_sent = False
        self.output = _Output()

    def execute(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            self.meeting = NodeLink(self.rendezvous, self.run.node_rank, len(self.run.nodes))
        except OSError as error:
            where = f"{self.rendezvous.address} port {self.rendezvous.port}"
            self.causes.append(self._cause(self.run.node_rank, f"cannot listen at {where}: {error.strerror}"))
            return self._finish()
        if not self._meet(self.meeting):
            if self.causes:
                return self._finish()
            self.meeting.send({"ending": True})
            return PREEMPTED
        try:
            return self._monitor(self.meeting, self._start(self.meeting))
        finally:
            self.output.end()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.ending = True

    def _meet(self, meeting: NodeLink) -> bool:
        """Wait for every node, then for the port of torchrun's rendezvous. Returns False if either fails."""
        names, deadline = self.run.nodes, time.monotonic() + JOIN_LIMIT_S
        _say(f"waiting for {', '.join(names[rank] for rank in sorted(meeting.missing))}")
        while not self.ending and not self.causes:
            if self.run.node_rank == 0 and not meeting.missing:
                self.port = free_port()
                meeting.send({"port": self.port})
            if self.port is not None:
                return True
            if time.monotonic() > deadline:
                self.causes.append(self._not_met(min(meeting.missing, default=0)))
            self._hear(meeting)
            self._check_stop_file(meeting)
        return False

    def _not_met(self, absent: int) -> NodeFailure:
        where = f"{self.rendezvous.address} port {self.rendezvous.port}"
        who = f"did not reach {where}" if self.run.node_rank == 0 else f"was not reached at {where}"
        return self._cause(absent, f"{who} within {JOIN_LIMIT_S:.0f} s; see `address:` of the node in nodes.yaml")

    def _start(self, meeting: NodeLink) -> subprocess.Popen[bytes]:
        assert self.port is not None
        environment = dict(os.environ)
        if interface := interface_of(meeting.own_address):
            # Left alone, gloo looks up the machine's own name, which on many is a loopback address.
            environment.setdefault("GLOO_SOCKET_IFNAME", interface)
            environment.setdefault("NCCL_SOCKET_IFNAME", interface)
        argv = torchrun_argv(sys.executable, self.run_dir, self.run, self.rendezvous, self.port)
        child = subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE)
        self.output.copy(child)
        return child

    def _monitor(self, meeting: NodeLink, child: subprocess.Popen[bytes]) -> int:
        """Wait until torchrun has ended: by itself, on request, or because another node failed."""
        passed_on = False
        while child.poll() is None and not self.causes:
            self._check_stop_file(meeting)
            if self.ending and not passed_on:
                passed_on = True
                child.terminate()
                meeting.send({"ending": True})
            self._hear(meeting)
        if self.ending or child.poll() == 0:
            code = child.wait()
            meeting.send({"done": True})
            return PREEMPTED if self.ending and code else code
        _let_it_end(child)
        if (failure := first_failure(self.output.end(), own_ranks(self.run_dir, self.run))) is not None:
            rank = self.run.node_rank * self.rendezvous.n_processes + failure.local_rank
            node = self.run.nodes[self.run.node_rank]
            cause = NodeFailure(node=node, rank=rank, sentence=failure.sentence, at=failure.at, echo=failure.echo)
            self.causes.append(cause)
        elif not self.causes:
            self.causes.append(self._cause(self.run.node_rank, f"torchrun ended with code {child.returncode}"))
        return self._finish(child.returncode)

    def _finish(self, code: int | None = None) -> int:
        """Agree with the other nodes on the first failure and record it. code: torchrun's, if it has ended."""
        meeting = self.meeting
        if meeting is not None:
            for cause in self.causes:
                meeting.send({"failed": msgspec.to_builtins(cause), "now": time.time()})
            agree_by, hear_cause_by = (time.monotonic() + limit_s for limit_s in (AGREE_LIMIT_S, ECHO_LIMIT_S))
            others = set(range(len(self.run.nodes))) - {self.run.node_rank}
            peers = others if self.run.node_rank == 0 else {0}
            while self.agreed is None and peers - self.quiet:
                if time.monotonic() > (hear_cause_by if all(cause.echo for cause in self.causes) else agree_by):
                    break
                self._hear(meeting)
        first_cause = self.agreed or min(self.causes, key=lambda cause: (cause.echo, cause.at))
        if meeting is not None and self.run.node_rank == 0:
            meeting.send({"cause": msgspec.to_builtins(first_cause)})
        write_record(self.run_dir.cause, first_cause)
        _say(f"the run failed first on {first_cause.whole}")
        return code or FAILED

    def _hear(self, meeting: NodeLink) -> None:
        """Process one message, if there is one, and pass it on to the other nodes."""
        next_message = meeting.receive(_POLL_S)
        if next_message is None:
            return
        rank, message = next_message
        if self.run.node_rank == 0 and "gone" not in message:
            meeting.send(message, but=rank)
        if "port" in message:
            self.port = int(message["port"])
        elif "stop" in message:
            self._request_stop()
        elif "ending" in message:
            self.ending = True
        elif "cause" in message:
            self.agreed = msgspec.convert(message["cause"], NodeFailure)
        elif "failed" in message:
            self._take_failure(rank, message)
        elif "gone" in message and rank not in self.quiet and not self.ending:
            self.causes.append(self._cause(rank, str(message["gone"])))
            self.quiet.add(rank)
        elif "done" in message:
            self.quiet.add(rank)

    def _take_failure(self, rank: int, message: Message) -> None:
        """Record another node's failure, with its time converted to this node's clock."""
        cause = msgspec.convert(message["failed"], NodeFailure)
        self.causes.append(replace(cause, at=cause.at + time.time() - float(message["now"])))
        if self.run.node_rank == 0:
            self.quiet.add(rank)

    def _check_stop_file(self, meeting: NodeLink) -> None:
        """Forward a stop file on this node to the first node, whose first process looks for it."""
        if self.run.node_rank and not self.stop_sent and self.run_dir.stop.exists():
            self.stop_sent = True
            meeting.send({"stop": True})

    def _request_stop(self) -> None:
        if self.run.node_rank == 0:
            with contextlib.suppress(OSError):
                self.run_dir.stop.touch()

    def _cause(self, node_rank: int, sentence: str) -> NodeFailure:
        return NodeFailure(node=self.run.nodes[node_rank], sentence=sentence, at=time.time())


class _Output:
    """Copies torchrun's messages to this process's own, and holds their end, which names the process that failed.

    The log does not: it may be that of all nodes.
    """

    def __init__(self) -> None:
        self._end = b""
        self._thread: threading.Thread | None = None

    def copy(self, child: subprocess.Popen[bytes]) -> None:
        """Copy the standard error of a process until it is closed."""
        self._thread = threading.Thread(target=self._copy, args=(child,), daemon=True)
        self._thread.start()

    def end(self) -> str:
        """Return the last messages, after they have all come."""
        if self._thread is not None:
            self._thread.join(OWN_END_S)
        return self._end.decode("utf-8", "replace")

    def _copy(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stderr is not None
        while piece := os.read(child.stderr.fileno(), 65536):
            self._end = (self._end + piece)[-TAIL_BYTES:]
            with contextlib.suppress(OSError):
                os.write(2, piece)


def _let_it_end(child: subprocess.Popen[bytes]) -> None:
    """Wait for the child to end, then send TERM. The supervisor kills what is left once this process is gone."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(OWN_END_S)
        return
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(OWN_END_S)


def _say(sentence: str) -> None:
    sys.stderr.write(f"giblet: {sentence}\n")
    sys.stderr.flush()

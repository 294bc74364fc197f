"""Messages that name why a training ended, by cause; used by `end_scan`."""

from __future__ import annotations

import re
from typing import Dict, Optional, Tuple

from giblet_train.diagnosis.log_reader.exit_status import exit_status_of

_CAUSES: Dict[str, Tuple[str, ...]] = {
    "too_many_files": (
        r"too many open files",
        r"zu viele offene dateien",
        r"\bErrno 24\b",
        r"received 0 items of ancdata",
        r"EMFILE",
    ),
    "shared_memory": (
        r"insufficient shared memory",
        r"\(shm\)",
        r"(?:/dev/shm|</torch_)\S*.*(?:no space|error|fail|unable|bus)",
        r"(?:unable|fail\w*|error|no space)\b.*(?:/dev/shm|</torch_|shared memory (?:file|segment|object))",
        r"(?<!pcie )\bbus error\b",
    ),
    "gpu_failure": (
        r"uncorrectable ECC",
        r"double[- ]bit ECC",
        r"ECC error",
        # The other Xid numbers report faults of the program, such as an illegal memory access.
        r"\bXid\b.*: (?:48|62|63|64|74|79|92|94|95|119|120)\b",
        r"fallen off the bus",
        r"GPU (?:is|has been) lost",
        r"unable to determine the device handle",
        r"hardware error.*GPU",
        r"NVLink error",
        r"GPU requires reset",
        r"cudaErrorECC",
    ),
    "oom_gpu": (
        r"\b(?:CUDA|HIP|XPU|NPU)\w*\b.{0,80}\bout of memory",
        r"cudaSuccess \(2 vs\. 0\)",
        r"\bout of memory on device\b",
        r"failed to allocate .{0,80}on device ordinal",
        r"(?<!ray\.exceptions\.)(?<!java\.lang\.)OutOfMemoryError",
        r"out of memory\b.*\bon GPU\b",
        r"CUDA_ERROR_OUT_OF_MEMORY",
        r"cudaErrorMemoryAllocation",
        r"CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED",
        r"unable to find a valid cuDNN algorithm",
        r"hipErrorOutOfMemory",
        r"MPS backend out of memory",
        r"\[METAL\].*Insufficient Memory",
        r"RESOURCE_EXHAUSTED.*(?:memory|failed to allocate)",
        r"OOM when allocating tensor",
    ),
    "oom_host": (
        r"out of memory: killed process",
        r"invoked oom-killer",
        r"memory cgroup out of memory",
        r"oom-kill:constraint",
        r"oom[-_ ]kill\w* (?:event|process)",
        r"detected \d+ oom",
        r"OOMKilled",
        r"task \d+: out of memory",
        r"paging file is too small",
        r"after using all available RAM",
        r"tried to allocate more memory than is available",
        r"exceeded its memory request",
        r"job killed: \S*mem\S* .*exceeded limit",
        r"nicht genügend (?:arbeits)?speicher",
        r"OUT_OF_MEMORY\b|\bOUT_OF_M\w{0,5}\+",
        r"exceeded (?:\w+ ){0,3}memory limit",
        r"\bMemoryError\b",
        r"ArrayMemoryError",
        r"cannot allocate memory",
        r"\bErrno 12\b",
        r"DefaultCPUAllocator: (?:can't|not enough)",
        r"std::bad_alloc",
        r"worker .*killed by signal: killed",
        r"for want of memory",
        r"\b(?:ray\.exceptions|java\.lang)\.OutOfMemoryError",
        r"running low on memory",
        r"low on resource: memory",
        r"killed by (?:the )?(?:kernel(?:'s)? )?OOM[- ]killer",
        r"result 'oom-kill'",
        r"TERM_MEMLIMIT",
    ),
    "disk_full": (
        r"no space left on device",
        r"\bErrno 28\b",
        r"os error 28",
        r"code: 28\b",
        r"ENOSPC",
        r"disk is full",
        r"kein speicherplatz (?:mehr )?(?:auf|verfügbar)",
        r"kontingent\w* (?:ist )?überschritten",
        r"disk quota exceeded",
        r"low on resource: ephemeral-storage",
        r"\bErrno 122\b",
        r"EDQUOT",
        r"PytorchStreamWriter failed",
        r"inline_container\.cc.*(?:unexpected pos|failed)",
        r"unexpected pos \d+ vs \d+",
        r"\d+ requested and \d+ written",
        r"basic_ios::clear: iostream error",
        r"file write failed",
    ),
    "data_error": (r"\binput ran out of data; interrupting training",),
    "tiny_batch_norm": (r"Expected more than 1 value per channel when training",),
    "collective_timeout": (
        r"collective operation timeout",
        r"watchdog.*time(?:d )?out",
        r"wait timeout after \d+ ?ms",
        r"Timed out waiting \d+ms",
        r"monitoredBarrier",
        r"socket timeout",
        r"store->get\(.*timeout",
        r"Rendezvous\w*Timeout",
        r"timeout at NCCL work",
        r"client socket has timed out",
        r"DistStoreError.*time",
        r"heartbeat.*(?:NCCL|watchdog)",
        r"heartbeat monitor timed out",
        r"watchdog (?:got stuck|hang)\b",
        r"timed out.*(?:rank|barrier|all_?reduce|collective)",
        r"(?:barrier|all_?reduce|collective)\S* timed out",
    ),
    "hangup": (
        r"\bsend disconnect: broken pipe",
        r"^packet_write_wait: connection to",
        r"^connection to \S+ closed by remote host",
        r"^Hangup\b",
        r":\s+\d+ Hangup\b",
        r"\bSIGHUP\b",
        r"got signal: 1\b|\breceived 1 death signal\b",
    ),
    "nan": (
        r"loss\b.{0,40} (?:is|became|turned|was) \S*(?:nan|inf)",
        r"\b(?:nan|infinite|non[- ]?finite) loss\b(?! (?:batches|counts?|steps)\b|:? ?0\b)",
        r"\bloss (?:has )?(?:exploded|diverged)\b",
        r"\bencountered (?:a )?(?:nan|inf)\b",
        r"loss became (?:infinite|nan)",
        r"nan or inf (?:found|detected)",
        r"invalid loss, terminating",
        r"\bNaN : Tensor",
        r"monitored metric \S+ = nan",
        r"minimum loss scale reached",
        r"loss scale already at minimum",
        r"gradient overflow.*minimum",
        r"returned nan values in its",
        r"tensor had (?:nan|inf)",
        r"satisfy the constraint .*found invalid values",
        r"(?:loss|gradients?|grad_?norm|logits|outputs?)\b.{0,30}(?:contains?|has|have|are|=) ?(?:nan|inf)\b",
        r"NanLossDuringTraining",
        r"\bnan in summary histogram\b",
        r"(?:nan|inf) (?:in|value of) (?:the )?(?:loss|gradient)",
        r"(?:nan|inf) detected in (?:the )?(?:loss|gradient|output)",
        r"\b(?:found|got|detected|produced) (?:a |an )?(?:nan|inf(?:inite|inity)?)s?\b"
        r"(?=.{0,40}\b(?:loss|grad|norm|output|logit|weight))",
        r"gradient norm is (?:nan|inf)",
    ),
}
CAUSES = tuple((cause, re.compile("|".join(messages), re.IGNORECASE)) for cause, messages in _CAUSES.items())
"""Cause -> the messages that name it. The first match of a line counts, so specific causes come first."""

CONFIGURATION_ECHO = re.compile(r"^\s*[\w.-]+\s*[:=]\s*(?:true|false|null|none|\d+)\s*,?$", re.IGNORECASE)
"""A line such as `oom-kill-disable: true`, which reports a setting."""
ADVICE = re.compile(r"\bto avoid\b|\bif you\b.*\bset\b|\bmay (?:run|cause)\b|\bdeprecated\b", re.IGNORECASE)

EXCEPTION = re.compile(
    r"(?:[A-Za-z_][\w.]*\.)?([A-Za-z_]\w*(?:Error|Exception|Interrupt|Refused|Failed|Failure|Exit|Preempted|Killed|Timeout|NotFound)"
    r"|Bad(?:Zip|Gzip)File|TimeoutExpired|StopIteration|\w*ExceptionGroup)"
    r"\b(?:\(\w+\))?(?::\s*(.*))?$"
)
TRACEBACK = "Traceback (most recent call last)"
IGNORED_EXCEPTION = re.compile(
    r"^Error in (?:atexit\.|sys\.excepthook|callback )"
    r"|^--- Logging error ---|^(?:Task|Future) exception was never retrieved"
    r"|^Exception (?:ignored|in thread .*(?:wandb|SenderThread|Tqdm|NetStatThr|WriterThread))",
    re.I,
)
THREAD_EXCEPTION = re.compile(r'^Exception in thread (?!"main")')
"""An exception that ends a thread, while the process continues."""
WARNING = re.compile(r"(?:\S+:\d+: )?(?:\w+: )?\w*Warning: ", re.IGNORECASE)
"""A line of Python's warnings, or one that calls itself a warning."""
CHAINED = re.compile(r"^(?:During handling of the above exception|The above exception was the direct cause)")
UNINFORMATIVE = frozenset({"_queue.Empty", "queue.Empty", "queue.Full", "_queue.Full", "StopIteration"})
"""Exceptions that only start the handling of a failure, and say nothing about it."""
OWN_ERRORS = frozenset({"ConfigError", "DataError", "GibletError"})
"""Errors of giblet, below which it prints a remedy."""
WRAPPERS = frozenset(
    {
        "ChildFailedError",
        "ProcessRaisedException",
        "CalledProcessError",
        "ProcessExitedException",
        "RayTaskError",
        "ExceptionGroup",
    }
)
"""Exceptions that report the failure of another process, and never the cause."""
VANISHED = re.compile(
    r"\bbackground workers are no longer alive|\bprocess in the process pool was terminated abruptly", re.IGNORECASE
)
"""A process lost another one that printed nothing."""
ECHO = re.compile(
    r"connection (?:reset|closed|refused) by|connection was (?:reset|closed)|remote process exited|broken ?pipe"
    r"|NCCL communicator was aborted|peer .*(?:closed|exited|failed)|process group has been destroyed"
    r"|exited unexpectedly|ncclRemoteError|unhandled system error|For simplicity, JAX has removed",
    re.IGNORECASE,
)
"""Messages of a process whose peer has failed, or of a library that only refers to another error."""
PLAIN_ERROR = re.compile(
    r"^(?:RuntimeError|Error|Fatal|fatal error|panic|Fatal Python error)\b:|^terminate called after throwing"
    r"|^\s*what\(\):|\b(?:FAILED|Segmentation fault|core dumped)\b|^(?:Killed|Terminated|Aborted|Bus error|Hangup)\s*$"
    r"|^\S+: line \d+:\s+\d+\s+(?:Killed|Terminated|Aborted|Segmentation|Bus error|Hangup)"
    r"|^[A-Za-z][\w./-]*: error: [a-z]|\bError response from daemon|^Could not override\b|^Evicted$"
    r"|Main process exited, code=(?:killed|dumped)|Main process exited, code=exited, status=[1-9]"
    r"|\b(?:exit|return) ?code[ :=]+-?[1-9]|slurmstepd\S*: error|srun: error|\bCANCELLED AT\b"
    r"|signal: (?:Killed|Aborted|Bus)|\bSIGTERM\b.*\b(?:received|caught)|\b(?:[Rr]eceived|[Cc]aught)\b.*\bSIGTERM\b"
    r"|\bthread: \[[\d, ]+\] Assertion .* failed|^CUDA error: |^(?:Segfault|Fatal error|FATAL ERROR)\b|\bpanicked at\b"
    r"|^(?:corrupted (?:double|size)|free\(\):|double free|malloc\(\)|munmap_chunk|\*\*\* stack smashing)"
    r"|^\*\*\* (?:SIG[A-Z]{3,5} \(|Error in [`'])|^Error (?:in|using) (?!atexit|sys\.|callback )\S|^Execution halted"
    r"|^(?:[^\s:]+: )?(?:line \d+: )?[^\s:]+: (?:command not found|cannot execute binary file"
    r"|(?i:no such file or directory|permission denied|not found)\s*$)|^\S+: can't open file "
    r"|^ORTE has lost communication|^An ORTE daemon has unexpectedly failed"
    r"|\bReceived (?!2 )\d+ death signal\b"
    r"|^OMP: Error #\d|^Windows fatal exception: |^forrtl: (?:error|severe)|^libc\+\+abi: terminating|\bFATAL ERROR: "
    r"|^(?:Fehler: )?(?:Training|Job)\b.*\babgebrochen\b|^[Oo]ut of memory\W*$|\bsegmentation fault encountered\b",
)
_SIGNALLED = r"killed|terminated|stopped|aborted?|abort|segmentation fault|bus error|floating point exception|hangup"
_WITH_CODE = (
    r"(?:\bexit(?:ed|s|ing)?\b(?!.*\b(?:https?|url)\b).{0,40}?\b(?:code|status|value|rc)\b\s?[:=]?\s?\(?"
    r"|\b(?:process|command|job|task|container|program|script|training|trainer|worker|child|rank \d+)\b.{0,60}?"
    r"\b(?:finished|ended|failed|returned|terminated|died|completed|stopped)\b.{0,30}?\b(?:code|status|rc)\b\s?[:=]?\s?"
    r"\(?|\bexited \()"
)
"""How a wrapper reports an exit code, up to the code."""
_CODE = r"\b(?:exit|return) ?code[ :=]+"
_BYTE = r"-?(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])\b(?![.,]\d)"
"""An exit code other than 0, which fits into a byte unlike the statuses of HTTP."""
_PROGRAM = (
    r"(?:\S+\.(?:py|sh|exe)|python[\d.]*|bash|sh|srun|mpirun|mpiexec|torchrun|accelerate|deepspeed|docker|singularity"
    r"|apptainer|main|train|trainer|training|process|command|job|task|program|script|run)"
)
_SCRIPT = r"(?:(?:\S+\.(?:sh|py|bat|ps1|slurm|sbatch)|wrapper|launcher): )?"
_EXIT_LINE = r"^\W*(?:exit|exit ?(?:code|status)|rc|ret|retval|return code)\W{1,3}(?!0\b)\d{1,3}\W*$"
EXIT_LINE = re.compile(_EXIT_LINE, re.IGNORECASE)
"""A line with nothing but an exit code other than 0; its number is no quantity."""
_NOT_UNEXPECTED = (
    r"if|in case|when|may|might|could|previous|last|prior|earlier|connection|stream|session|upload|download|worker"
    r"|tunnel|monitor|thread|sync|server|socket|request|file"
)
"""Words next to `ended unexpectedly` where this is no end of the training."""
EXITED = re.compile(
    rf"{_WITH_CODE}-?[1-9]\d{{0,2}}\b"
    rf"|^{_SCRIPT}(?:(?:the )?{_PROGRAM} )?returned {_BYTE}[\s.!]*$"
    rf"|^{_SCRIPT}(?:(?:the )?{_PROGRAM} )?(?:has )?(?:finished|ended|failed|returned|terminated|stopped)"
    rf" with (?:an? )?(?:exit |return )?(?:code|status|rc)\s?[:=]?\s?{_BYTE}"
    rf"|^(?!.*\b(?:{_NOT_UNEXPECTED})\b)"
    r".{0,80}\b(?:ended|terminated|died|aborted|stopped|crashed) unexpectedly\b"
    r"|\bnon-?zero (?:exit |return )?(?:code|status)|\bprocess to finish\W{0,5}\(failed [1-9]\d{0,2}\)"
    r"|\*\*\* \[.*\] (?:Error|Fehler) \d"
    r"|^Error executing job with overrides|\b进程已结束.{0,20}代码\W{0,2}-?[1-9]|\bExit-Code\W{1,3}-?[1-9]"
    r"|^(?:段错误|已终止|已放弃|Erreur de segmentation|Violación de segmento|Segmentatiefout)\b"
    rf"|{_EXIT_LINE}|^MPI_ABORT was invoked on rank \d"
    r"|^\S+\s+\d+/\d+\s+(?:Error|CrashLoopBackOff|ImagePullBackOff|ErrImagePull|CreateContainer\w*Error|Evicted)\s+\d"
    rf"|^\[\d+\]\s*[+-]?\s+(?:[+-]\s+)?(?:\d+\s+)?(?:exit [1-9]|{_SIGNALLED})\b"
    rf"|^(?:zsh|bash|fish|sh|dash): (?:.*[ ,:])?(?:{_SIGNALLED})\b|\bterminated by signal (?:SIG)?[A-Z\d]"
    r"|^(?:(?:\S+: )?Zeile \d+:\s+\d+ )?(?:Getötet|Abgebrochen|Beendet|Speicherzugriffsfehler)\b[^:]{0,40}$"
    r"|^(?:the )?(?:kernel|session|runtime) (?:appears to have )?(?:died|crashed|disconnected)\b"
    r"|\bsystem (?:is going down|will (?:power off|reboot))|\bworker process has died\b"
    r"|^container killed\b"
    rf"|^{_SCRIPT}(?:[\w -]{{0,30}}\s)?"
    r"(?:job|run|training|experiment|task|command|script) (?:has |was )?failed\b(?! to\b)"
    r"(?!\W{1,3}\d+\s*(?:$|[,;/|]))",
    re.IGNORECASE,
)
"""A wrapper reports that the training ended with another code than 0: an end, without its reason."""
_ENDED_ONLY = re.compile(r"^Terminated\s*$|\bFAILED\b[\s.!]*$")
SOURCE = re.compile(
    r"\s*(?:raise (?:\w+\.)*\w+\(|assert\s.*[\[\](),]|(?:print|warnings\.warn|sys\.exit|log(?:ger|ging)?\.\w+)\("
    r"|(?:if|elif|while|for|with|except|def|class)\b.*:\s*(?:#.*)?$|from [\w.]+ import\b)"
)
"""A line of a program, as tracebacks and dumps quote them: what it names has not happened."""
POWERSHELL = re.compile(
    r"^(?:At|In|Au|En|Na|Op)\s(?:.{0,200}\.ps1|line|Zeile|caractère Ligne|línea|linha|riga|regel)\s?:\s?\d+\s?"
    r"[\w:]{0,12}\s?:?\s?\d+\s*$"
)
"""Place in a script with which PowerShell begins its remark about a program that prints to standard error."""
POWERSHELL_END = re.compile(r"^\s*\+ FullyQualifiedErrorId\b")
_STATE = rf"(?:exit \d+|done|getötet|abgebrochen|beendet|{_SIGNALLED})"
HELPER = re.compile(
    rf"^(?:\[\d+\]\s*[+-]?\s|\S+: (?:line|Zeile) \d+:).{{0,30}}?\b{_STATE}\b(?: \(core dumped\))?\s+"
    r"(?:(?:nohup|sudo|exec|env|stdbuf -\S+)\s+)*(?:\S*/)?(?:nvidia-smi|nvtop|gpustat|dcgmi|rocm-smi|jupyter\S*"
    r"|tensorboard|ssh(?!.*(?:\bpython|\btorchrun|\.py\b|\.sh\b))|autossh|sshfs|rsync|scp|rclone|tail|sleep|watch|h?top|vmstat|iostat|dstat|mpstat|pidstat|sar|free|ping|Xvfb|mlflow"
    r"|python\S* -m (?:http\.server|jupyter\S*|tensorboard\S*))(?=\s|$)",
    re.IGNORECASE,
)
"""A shell reports the end of a job that is no training, such as a monitor or a tunnel."""
ENDS_TRAINING = re.compile(r"\binterrupting training\b|\breceived \d+ death signal\b", re.IGNORECASE)
"""A warning that announces the end of the training."""
ACTIVITY = re.compile(
    r"\b(?:load|sav|restor|resum|read|writ|open|download|summon|decod|export|import)ing\b|\bcheckpoint\b", re.IGNORECASE
)
"""A line about what a program does with files: next to an error that names none, it shows what failed."""
AT_EXIT = re.compile(r"\bdriver shutting down\b|\bcudaErrorCudartUnloading\b|\bat interpreter shutdown\b")
"""Errors that a program can only meet while it exits."""
TASK_OF_SLURM = re.compile(r"^srun: error: \S+: tasks? [\d,-]+: ")
WITHOUT_REASON = re.compile(r"\bCANCELLED AT \S+ \*\*\*$")
"""A cancelled job of Slurm without a reason, as after `scancel`."""
WARNED_CAUSES = frozenset({"oom_gpu", "oom_host", "disk_full", "gpu_failure", "too_many_files", "shared_memory"})
"""Causes that a program may survive, and then only warns of."""
COMPLAINT = re.compile(
    r"\b[Ff]atal\b(?!: not a git)|\b[Uu]nrecoverable\b|\b[Gg]iving up\b|\b[Aa]borting\b|\bfailed to start\b"
    r"|Resource temporarily unavailable|\bLmod has detected the following error|pthread_create failed"
    r"|^(?=.{2,80}?[\]>|):-]\s)(?:.*?[\]>|):-]\s+)(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception)\b: \S"
)
"""Words that doom a program, or an exception behind a prefix of unknown form: an end, if nothing follows."""
KILLED = re.compile(
    r"^(?:已杀死|Processus arrêté|Terminado \(killed\))"
    r"|^(?:\S+: (?:line|Zeile) \d+:\s+\d+\s+)?(?:Killed|Getötet)(?=\s{2}|[:.!]|\s*$"
    r"|\s(?:\S*/)?(?:python[\d.]*\s+(?:-|\S+\.py\b)|torchrun\s|accelerate launch\b|deepspeed\s|\S+\.(?:py|sh)\b))"
    r"|^(?:zsh|fish): killed\b"
    r"|^\[\d+\]\s*[+-]?\s+(?:[+-]\s+)?(?:\d+\s+)?killed\b|terminated by signal SIGKILL"
    r"|^container killed\b|task \d+: Killed|\bSIGKILL\b"
    rf"|(?:{_CODE}|{_WITH_CODE})(?:-9|137)\b|signal:? 9\b|status=9/KILL",
    re.I,
)
ABORTED = re.compile(rf"\bSIGABRT\b|Aborted \(core dumped\)|(?:{_CODE}|{_WITH_CODE})(?:-6|134)\b", re.I)
CLOSING = re.compile(
    r"sending process \d+ closing signal|received signal.*sigterm|sigterm.*(?:closing|torchelastic)", re.I
)
"""torchrun ends the other ranks: an echo."""
PROGRAM_ERROR = re.compile(
    r"\b(?:slurmstepd\S*|srun): error|\bCANCELLED AT\b|^[A-Za-z][\w./-]*: error: [a-z]"
    r"|: \*\*\* \[|^\+ ret=[1-9]\d{0,2}$|^Error executing job with overrides"
)
"""A message of Slurm, make, a shell or a command line. Its `STEP 123.0` or `--learning_rate 0.1` is no progress."""
CANCELLED = re.compile(
    r"\bCANCELLED AT\b|\bjob (?:was |has been )?killed\b"
    r"|(?:reached|exceeded) .*(?:run ?time|walltime|time) limit|TERM_RUNLIMIT"
    r"|\bjob allocation \d+ has been revoked|\bforce terminated job\b"
    r"|\bexceeded the (?:max\w*|allowed|timeout|execution).{0,40}\b(?:timeout|duration|time)\b"
    r"|\bspot (?:instance )?interruption|\bspot instance is being reclaimed"
    r"|\bJobState=(?:TIMEOUT|NODE_FAIL|PREEMPTED|CANCELLED)"
    r"|^scancel: terminating|^qdel: |^job \S+ (?:has been|was) (?:deleted|cancelled|aborted)"
    r"|^cancelled by\b|^preempted by\b"
    r"|\bhost EC2 \(.*\) terminated|\btimeout: sending signal|\bzeitlimit (?:erreicht|überschritten)"
    r"|\b(?:job|instance|node) (?:is being|was|has been|is) preempted",
    re.IGNORECASE,
)
"""A scheduler ends the job: cancelled, preempted, or out of time."""

_STATEMENTS: Dict[str, Tuple[str, ...]] = {
    "interrupted": (
        r"^\^?C?KeyboardInterrupt\b",
        r"^\^C",
        r"\bctrl ?[-+]? ?c (?:detected|pressed|received|was)|\bsending ctrl-c\b|\bcontrol-c event\b",
        r"\bsignal 2: sigint\b|\bexit(?:ed)?\b.{0,30}\bcode[ :=]{1,2}130\b|\*\*\* \[.*\] interrupt\b",
        r"\breceived sigint\b|\bstopped by (?:the )?user\b",
        r"\binterrupted by user",
        r"training interrupted",
        r"detected keyboardinterrupt",
        r"got signal: 2\b|\breceived 2 death signal\b",
    ),
    "early_stop": (
        r"early[- ]?stop\w*.*(?:trigger|epoch|stopped|after|reached|no improvement|ran out)",
        r"early[- ]?stopp\w*[.! ]*$",
        r"stopping (?:training )?early",
        r"signaling Trainer to stop",
        r"\btrigger\w* early[- ]?stop",
        r"no improvement .*\bstopping training",
        r"\bpatience (?:is )?(?:exhausted|exceeded)",
    ),
    "complete": (
        r"training (?:is |was )?(?:complete|completed|finished|done|ended|abgeschlossen|beendet)",
        r"(?:finished|done|completed|end of) training",
        r"Trainer\.fit.? stopped: `?max_",
        r"training time\s*:?\s*\d",
        r"train(?:ing)? run(?:time)? .*complete",
        r"\d+ epochs completed in",
        r"fit completed",
        r"is now trained\b",
        r"\boptimization done\b",
    ),
}
STATEMENTS = tuple((state, re.compile("|".join(texts), re.IGNORECASE)) for state, texts in _STATEMENTS.items())
"""State -> what a log prints when the training ends by itself."""
_STATEMENT_WORDS = (
    "death signal",
    "^c",
    "130",
    "ctrl",
    "control-c",
    "sigint",
    "by user",
    "by the user",
    "interrupt",
    "early",
    "train",
    "complete",
    "done",
    "signal: 2",
    "patience",
)
_STATEMENT_OF_SETTINGS = re.compile(r"patience\s*[:=]|enabled|counter|will stop|callback|use early", re.IGNORECASE)
RESUMED = re.compile(
    r"\bresum(?:ed|ing)\b|\brestart(?:ed|ing)\b|load(?:ed|ing) (?:the )?(?:last |latest )?checkpoint", re.I
)

SIGNALS: Dict[int, str] = {
    1: "SIGHUP",
    2: "SIGINT",
    6: "SIGABRT",
    7: "SIGBUS",
    9: "SIGKILL",
    11: "SIGSEGV",
    15: "SIGTERM",
}


_KEYWORDS: Dict[str, Tuple[str, ...]] = {
    "too_many_files": ("too many", "zu viele", "errno 24", "ancdata", "emfile"),
    "shared_memory": ("shm", "torch_", "shared memory", "bus error"),
    "gpu_failure": ("ecc", "xid", "bus", "gpu", "nvlink", "device handle"),
    "oom_gpu": ("memory", "alloc", "algorithm", "2 vs. 0"),
    "oom_host": ("mem", "out_of_m", "oom", "alloc", "errno 12", "killed", "已杀死", "paging", "ram", "speicher"),
    "disk_full": (
        "space",
        "speicherplatz",
        "kontingent",
        "errno",
        "os error",
        "code: 28",
        "quota",
        "disk",
        "writ",
        "pos ",
        "iostream",
        "enospc",
        "edquot",
        "storage",
    ),
    "data_error": ("ran out of data",),
    "tiny_batch_norm": ("per channel",),
    "collective_timeout": ("time", "barrier", "watchdog"),
    "hangup": ("hangup", "sighup", "signal: 1", "1 death", "disconnect", "packet_write", "closed by"),
    "nan": ("nan", "inf", "loss", "overflow", "invalid values"),
}
"""Cause -> words of which its messages contain at least one, in lower case: a quick test before the pattern."""


_OTHER_ERROR_WORDS = (
    *("watchdog", "进程", "段错误", "已", "processus", "terminado", "segment", "exit-code"),
    *("fehler", "abgebrochen", "getötet", "beendet", "speicher", "kontingent", "zu viele", "zeitlimit", "disconnect"),
    *("closed by", "packet_write", "crashed", "going down", "power off", "terminat", "rc=", "ret=", "retval", "code"),
    *("jobstate", "deleted", "reclaimed", "corrupt", "free", "malloc", "stack smashing", "detected", "stopped"),
    *(
        "halted",
        "not found",
        "no such",
        "denied",
        "can't open",
        "unavailable",
        "out_of_m",
        "2 vs. 0",
        "sigsegv",
        "sigbus",
    ),
    *(
        "ran out of data",
        "orte",
        "backoff",
        "errimagepull",
        "revoked",
        "ended (",
        "exceeded",
        "omp: ",
        "insufficient",
        "unrecoverable",
        "giving up",
    ),
    *("segfault", "norm is", "badzip", "badgzip", "stopiteration", "notfound", "expired"),
)
_ERROR_WORDS = (
    *("error", "exception", "interrupt", "refused", "fail", "exit", "preempted", "kill", "timeout", "timed", "limit"),
    *("traceback", "terminate", "what()", "fault", "dumped", "abort", "hangup", "signal", "cancelled", "fatal"),
    *("memory", "space", "quota", "disk", "written", "unexpected pos", "too many", "ancdata", "shm", "xid", "ecc"),
    *("gpu", "alloc", "oom", "per channel", "barrier", "nan", "scale", "overflow", "errno", "sighup", "giblet: "),
    *("panic", "bus", "nvlink", "cudnn", "terminating", "invalid values", "sigterm", "preempted", "spot", "term_"),
    *(
        "low on",
        "is nan",
        "could not override",
        "evicted",
        "returned",
        "non-zero",
        "nonzero",
        "died",
        "unexpectedly",
        "with status",
        *_OTHER_ERROR_WORDS,
    ),
)
_STACK_FRAME = "frame #"


def may_be_error(text: str) -> bool:
    """Return False if a line certainly reports no error: a quick test before all patterns."""
    lowercase = text.lower()
    return not text.startswith(_STACK_FRAME) and any(word in lowercase for word in _ERROR_WORDS)


def cause_of(text: str) -> Optional[str]:
    """Return the cause that a line names; None if it names none, or only reports a setting."""
    lowercase = text.lower()
    for cause, pattern in CAUSES:
        if any(word in lowercase for word in _KEYWORDS[cause]) and pattern.search(text):
            return None if CONFIGURATION_ECHO.match(text) else cause
    return None


_REPORT = re.compile(
    r"^\[\s*\d+\.\d+\]|\b(?:NVRM|kernel): |\bout of memory: killed process \d|\binvoked oom-killer: "
    r"|\boom-kill:constraint=|\bkilled by (?:the )?(?:kernel )?OOM[- ]killer\W*$|\bWork(?:NCCL)?\(\w+="
    r"|\bProcessGroupNCCL\b|\bNCCL (?:WARN|INFO)\b"
    r"|\bCUDA out of memory\. Tried to allocate \d|\b(?:CUDA|HIP) error: |\[Errno \d+\]"
    r"|^[a-z][\w./-]*: .*: (?:No space left on device|Cannot allocate memory|Disk quota exceeded|Too many open files)"
    r"\W*$",
    re.IGNORECASE,
)
"""Report of a kernel, a driver, a library or a command line about a failure, with what only they print next to it."""


def is_message_of_program(text: str) -> bool:
    """Return True for an exception, or a message in the form of a program, a kernel or a scheduler; False for prose."""
    forms = (PLAIN_ERROR, PROGRAM_ERROR, ABORTED, KILLED, EXITED, _REPORT)
    is_message = EXCEPTION.match(text) is not None or any(form.search(text) for form in forms)
    return is_message or _states_failure(text)


def is_wrapper(text: str) -> bool:
    """Return True for an exception that reports the failure of another process."""
    exception = EXCEPTION.match(text)
    return exception is not None and exception[1] in WRAPPERS


def is_exit_only(text: str) -> bool:
    """Return True for a line that reports that a program ended badly, but not why."""
    return EXITED.search(text) is not None or _ENDED_ONLY.search(text) is not None or _states_failure(text)


def is_end_by_scheduler(text: str) -> bool:
    """Return True for a line that states that a scheduler ended the job: cancelled, preempted, or out of time."""
    status = exit_status_of(text)
    return CANCELLED.search(text) is not None or (status is not None and status.by_scheduler)


def _states_failure(text: str) -> bool:
    status = exit_status_of(text)
    return status is not None and status.is_failure


_DURATION_ONLY = re.compile(r"\btraining time\s*:?\s*\d", re.IGNORECASE)


def is_mere_duration(text: str) -> bool:
    """Return True for the time that a training took, which some programs also print when an error has ended it."""
    return _DURATION_ONLY.search(text) is not None


def statement_of(text: str) -> str:
    """Return `complete`, `early_stop` or `interrupted` if a line states that the training ended so; else empty."""
    lowercase = text.lower()
    if len(text) > 400 or not any(word in lowercase for word in _STATEMENT_WORDS):
        return ""
    state = next((state for state, pattern in STATEMENTS if pattern.search(text)), "")
    is_other = _STATEMENT_OF_SETTINGS.search(text) is not None or cause_of(text) == "nan"
    return "" if state == "early_stop" and is_other else state

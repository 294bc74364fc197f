"""What nvidia-smi and dmesg print on a server with a divided, a lost and two damaged GPUs, after published recordings.

These are stand-ins: no GPU is used, and the values are invented where a recording names machines.
"""

from __future__ import annotations

from pathlib import Path

DIVIDED, FALLEN, LOST, DAMAGED = (f"GPU-6a1b2c3d-0000-1111-2222-33334444555{n}" for n in range(4))
SLICES = ("MIG-9cdf5b2b-0000-5111-8222-333344445550", "MIG-9cdf5b2b-0000-5111-8222-333344445551")

GPUS = f"""\
0, {DIVIDED}, NVIDIA A100-SXM4-40GB, [N/A], 40960, [N/A], 31
1, {FALLEN}, NVIDIA A100-SXM4-40GB, 4, 40960, 0, 35
2, {LOST}, NVIDIA A100-SXM4-40GB, [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost]
3, {DAMAGED}, NVIDIA A100-SXM4-40GB, 4, 40960, 0, 33
"""
HEALTH = f"""\
{DIVIDED}, Default, Enabled, Disabled, 0
{FALLEN}, Default, Disabled, Disabled, 0
{LOST}, [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost]
{DAMAGED}, Default, Disabled, Disabled, 2
"""
ADDRESSES = f"""\
{DIVIDED}, 00000000:07:00.0
{FALLEN}, 00000000:3B:00.0
{LOST}, 00000000:5E:00.0
{DAMAGED}, 00000000:AF:00.0
"""
LISTING = f"""\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {DIVIDED})
  MIG 3g.20gb     Device  0: (UUID: {SLICES[0]})
  MIG 1g.5gb      Device  1: (UUID: {SLICES[1]})
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {FALLEN})
Unable to determine the device handle for gpu 0000:5E:00.0: GPU is lost.  Reboot the system to recover this GPU
GPU 3: NVIDIA A100-SXM4-40GB (UUID: {DAMAGED})
"""
DETAILS = f"""\
<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <gpu id="00000000:07:00.0">
    <mig_mode><current_mig>Enabled</current_mig><pending_mig>Enabled</pending_mig></mig_mode>
    <mig_devices>
      <mig_device><index>0</index><gpu_instance_id>1</gpu_instance_id><compute_instance_id>0</compute_instance_id>
        <fb_memory_usage><total>19968 MiB</total><reserved>0 MiB</reserved><used>9037 MiB</used></fb_memory_usage>
      </mig_device>
      <mig_device><index>1</index><gpu_instance_id>9</gpu_instance_id><compute_instance_id>0</compute_instance_id>
        <fb_memory_usage><total>4864 MiB</total><reserved>0 MiB</reserved><used>12 MiB</used></fb_memory_usage>
      </mig_device>
    </mig_devices>
    <uuid>{DIVIDED}</uuid>
    <processes>
      <process_info><gpu_instance_id>1</gpu_instance_id><compute_instance_id>0</compute_instance_id>
        <pid>424242</pid><type>C</type><process_name>python</process_name><used_memory>9024 MiB</used_memory>
      </process_info>
    </processes>
  </gpu>
  <gpu id="00000000:3B:00.0"><mig_devices>None</mig_devices><uuid>{FALLEN}</uuid></gpu>
</nvidia_smi_log>
"""
KERNEL_LOG = """\
[   12.031337] nvidia 0000:3b:00.0: enabling device (0000 -> 0002)
[86400.120051] NVRM: Xid (PCI:0000:07:00): 31, pid=4711, name=python, Ch 00000008, intr 10000000. MMU Fault
[90000.500123] NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
"""


def record(folder: Path) -> None:
    """Write programs `nvidia-smi` and `dmesg` that print this into a folder of a PATH."""
    texts = {"gpus": GPUS, "health": HEALTH, "pci": ADDRESSES, "list": LISTING, "xml": DETAILS, "kernel": KERNEL_LOG}
    for name, text in texts.items():
        (folder / f"recorded-{name}").write_text(text)
    cases = {"*gpu=index*": "gpus", "*compute_mode*": "health", "*pci.bus_id*": "pci", "-L": "list", "-q": "xml"}
    branches = " ".join(f"{pattern}) cat {folder}/recorded-{name};;" for pattern, name in cases.items())
    programs = {"nvidia-smi": f"case $1 in {branches} esac", "dmesg": f"cat {folder}/recorded-kernel"}
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


def remove(folder: Path) -> None:
    """Remove both programs."""
    for name in ("nvidia-smi", "dmesg"):
        (folder / name).unlink(missing_ok=True)

"""Launchers that start a script in several processes: accelerate, torchrun, deepspeed."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from allmend.planning.effects.scripts import again, ran

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session

_LAUNCH_VALUED = frozenset(
    [
        "--config_file",
        "--num_processes",
        "--num_machines",
        "--machine_rank",
        "--main_process_ip",
        "--main_process_port",
        "--mixed_precision",
        "--num_cpu_threads_per_process",
        "--gpu_ids",
        "--dynamo_backend",
        "--nproc_per_node",
        "--nproc-per-node",
        "--nnodes",
        "--node_rank",
        "--master_addr",
        "--master_port",
        "--include",
        "--num_gpus",
        "--hostfile",
        "--rdzv_backend",
        "--rdzv_endpoint",
        "--rdzv_id",
        "--deepspeed_config_file",
        "-n",
        "-np",
        "-H",
        "--zero_stage",
        "--gradient_accumulation_steps",
        "--master-port",
        "--rdzv-backend",
        "--rdzv-endpoint",
        "--deepspeed_multinode_launcher",
        "--fsdp_offload_params",
        "--bind-to",
        "-x",
        "--mca",
        "--log-dir",
    ]
)


def launched(session: Session, line: Line, start: int) -> None:
    places = line.positional(_LAUNCH_VALUED, start)
    if line.option("--num_gpus", "--nproc_per_node", "--gpu_ids") or line.flag("--multi_gpu"):
        from allmend.planning.effects import hardware

        hardware.need(session, "gpu")
    if not places:
        return
    at = places[0]
    if line.flag("-m", "--module") and line.words.index(next(w for w in line.words if w in ("-m", "--module"))) < at:
        from allmend.planning.effects.running import module

        module(session, line, at)
    elif re.fullmatch(r"python[\d.]*", posixpath.basename(line.words[at])):
        again(session, line, at)
    else:
        ran(session, line, at)


def accelerate(session: Session, line: Line) -> None:
    """`accelerate launch script.py`."""
    if "launch" in line.words[1:]:
        launched(session, line, line.words.index("launch") + 1)


def launcher(session: Session, line: Line) -> None:
    """`torchrun script.py`, `deepspeed script.py`."""
    launched(session, line, 1)

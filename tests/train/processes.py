"""Running the linear training in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("linear_run.py")


def start(*arguments: object, script: Path = SCRIPT, devices: int = 1) -> subprocess.Popen:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, str(script), *map(str, arguments)]
    environment = {**os.environ, "XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*arguments: object, script: Path = SCRIPT, devices: int = 1) -> tuple[int, str, str]:
    """Exit code, output and error output of a run that is left alone."""
    process = start(*arguments, script=script, devices=devices)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def value(output: str, name: str) -> str:
    """What the run printed under a name."""
    return next(line.removeprefix(name).strip() for line in output.splitlines() if line.startswith(name))

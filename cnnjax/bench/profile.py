"""Where the time of a compiled step goes, by kind of operation."""

import re
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from cnnjax.training import onednn

# What an instruction is counted as: the first of these that it, or what is fused into it, holds.
KINDS = {
    "convolution": ("convolution",),
    "matrix product": ("dot",),
    "pooling": ("reduce-window", "select-and-scatter"),
    "reduction": ("reduce",),
    "layout": ("copy", "transpose", "pad", "slice", "dynamic-slice", "concatenate", "reshape",
               "gather", "scatter", "bitcast"),
}  # fmt: skip
LOOP = "while"
# What XLA's pool of threads says of a task: who asks for it, when it begins and when it is done.
TASK = "ThreadpoolListener::"
# oneDNN's part of a program has events of its own names, which end in what it runs.
ONEDNN = {onednn.CALL: "convolution", onednn.PRODUCT: "matrix product"}


class Moment(NamedTuple):
    """What a thread begins or ends, or asks another one for; in the order in which it counts.

    What ends makes way for what begins; of what begins at once, the longest holds the others.
    """

    when: float  # nanoseconds
    rank: int
    length: float
    thread: int
    what: str  # "begins", "ends", "Record", "StartRegion" or "StopRegion"
    which: str  # an instruction, or the number of a task


def breakdown(step: Callable[[int], None], program: str, steps: int = 3) -> list[dict[str, Any]]:
    """Milliseconds per step and share of each kind of operation, from a profile of `step`.

    `program` is its compiled text. Threads that run at the same moment divide it among them, so the
    sum is the time in which any ran. Empty where the profiler sees no operations.
    """
    kinds = kinds_of(program)
    loops = {name for name, kind in kinds.items() if kind == LOOP}  # what runs in them has events
    found: defaultdict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            step(steps)
        for path in Path(directory).glob("**/*.xplane.pb"):
            for name, ms in milliseconds(_moments(path, loops)).items():
                kind = ONEDNN.get("__" + name.rpartition("__")[2], kinds.get(name, "other"))
                found[kind] += ms / steps
    total = sum(found.values())
    return [
        {"kind": kind, "ms": ms, "share": ms / total}
        for kind, ms in sorted(found.items(), key=lambda item: -item[1])
    ]


def kinds_of(program: str) -> dict[str, str]:
    """The kind of every instruction of a compiled program, from its text.

    Arithmetic that holds none of KINDS is elementwise; a loop is neither.
    """
    opcodes: dict[str, set[str]] = {}  # computation -> what its instructions are
    instructions: dict[str, set[str]] = {}
    calls: dict[str, list[str]] = {}
    computation = ""
    for line in program.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            computation = header[1]
        elif found := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = .*? ([a-z][a-z\-]*)\(", line):
            name, opcode = found[1], found[2]
            if not re.search(r"= (?:pred|[su]\d+)\[\] ", line):  # but for where in a map
                opcodes.setdefault(computation, set()).add(opcode)
            instructions[name] = {opcode}
            calls[name] = re.findall(r"(?:calls|to_apply)=%?([\w.\-]+)", line)
    for name, called in calls.items():
        if "fusion" in instructions[name] or "call" in instructions[name]:
            instructions[name] = set().union(*(opcodes.get(c, set()) for c in called))
    return {name: _kind(held) for name, held in instructions.items()}


def _kind(opcodes: set[str]) -> str:
    if opcodes == {LOOP}:
        return LOOP
    for kind, words in KINDS.items():
        if kind != "layout" and opcodes & set(words):
            return kind
    plain = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "broadcast"}
    return "layout" if opcodes <= {*KINDS["layout"], *plain} else "elementwise"


def _moments(path: Path, leave: Collection[str]) -> list[Moment]:
    """Of all instructions in a profile but for those in `leave`."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the profiler's own bindings
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
        for thread, line in enumerate(line for plane in planes for line in plane.lines):
            for event in line.events:
                start, length = event.start_ns, event.duration_ns
                stats = {str(key): value for key, value in event.stats}
                name = str(stats.get("hlo_op", ""))
                if name and name not in leave and length > 0:
                    found.append(Moment(start, 1, -length, thread, "begins", name))
                    found.append(Moment(start + length, 0, length, thread, "ends", name))
                elif event.name.startswith(TASK):
                    task = str(stats.get("_p", stats.get("_c")))
                    found.append(Moment(start, 2, 0, thread, event.name.removeprefix(TASK), task))
    return found


def milliseconds(moments: Sequence[Moment]) -> dict[str, float]:
    """How long each instruction ran.

    A thread runs what began last on it and has not ended: an instruction, or a task, which counts
    for what ran on the thread that asked for it, when it asked.
    """
    found: defaultdict[str, float] = defaultdict(float)
    running: defaultdict[int, list[tuple[bool, str]]] = defaultdict(list)  # tasks are true
    asked: dict[str, str] = {}
    before = 0.0
    for now, _, _, thread, what, which in sorted(moments):
        busy = [name for stack in running.values() for _, name in stack[-1:] if name]
        for name in busy:
            found[name] += (now - before) / len(busy) / 1e6
        before, stack = now, running[thread]
        match what:
            case "begins":
                stack.append((False, which))
            case "Record":
                asked[which] = stack[-1][1] if stack else ""
            case "StartRegion":
                stack.append((True, asked.get(which, "")))
            case "ends" | "StopRegion":
                ended = [
                    i for i, (task, name) in enumerate(stack)
                    if (task if what == "StopRegion" else not task and name == which)
                ]  # fmt: skip
                if ended:  # a profile may begin within a task
                    del stack[ended[-1]]
    return found

"""What a traced network computes: multiply-adds and receptive fields, read off its jaxpr.

The walk knows convolutions and matrix products, not layers, so a network of anyone's own modules is
counted as ours are. Equations are attributed to modules by name scopes that the tracer sets.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jax.extend import core

MARK = re.compile(r"@([^@/]*)@")


def scope(path: Sequence[str]) -> str:
    """The name scope that attributes equations to the module at `path`."""
    return "@" + ".".join(path) + "@"


@dataclass(frozen=True)
class Field:
    """How one position of a map sees the input, per spatial axis of that input.

    `reach` is the receptive field in pixels, `jump` the distance between the fields of neighbours,
    `axes` the array axis along which the map still runs (None once it is merged or reduced).
    """

    reach: tuple[int, ...]
    jump: tuple[int, ...]
    axes: tuple[int | None, ...]

    def windowed(self, axis: int, window: int, stride: int) -> "Field":
        """After a window of `window` positions moved by `stride` along array axis `axis`."""
        if axis not in self.axes:
            return self
        i = self.axes.index(axis)
        reach = self.reach[i] + (window - 1) * self.jump[i]
        jump = self.jump[i] * stride
        return replace(self, reach=_put(self.reach, i, reach), jump=_put(self.jump, i, jump))

    def moved(self, shape: Sequence[int], to: Callable[[int], int | None]) -> "Field":
        """After array axis a of `shape` became `to(a)`; what is lost has been seen as a whole."""
        now = self
        for i, axis in enumerate(self.axes):
            if axis is None:
                continue
            if to(axis) is None:
                now = now.windowed(axis, shape[axis], 1)
            now = replace(now, axes=_put(now.axes, i, None))
        return replace(now, axes=tuple(None if a is None else to(a) for a in self.axes))


@dataclass
class Count:
    """What the equations of one module add up to."""

    macs: int = 0
    activations: int = 0
    field: Field | None = None


@dataclass
class Walk:
    """One pass over a jaxpr; `counts` holds the result per module path."""

    share: Mapping[str, float] = field(default_factory=dict)
    """Of the dense kernels of a module, the share that exists (connection tables)."""
    counts: dict[str, Count] = field(default_factory=dict)

    def run(
        self, jaxpr: Any, inputs: Sequence[Field | None], path: str = "", times: int = 1
    ) -> list[Field | None]:
        """Follow `inputs` through `jaxpr`; None is what does not depend on the images.

        `times` is how often it is executed.
        """
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        known: dict[Any, Field | None] = dict(zip(jaxpr.invars, inputs, strict=True))

        def read(var: Any) -> Field | None:
            return None if isinstance(var, core.Literal) else known.get(var)

        for eqn in jaxpr.eqns:
            marks = MARK.findall(str(eqn.source_info.name_stack))
            where = marks[-1] if marks else path
            outputs = self._equation(eqn, [read(v) for v in eqn.invars], where, times)
            known.update(zip(eqn.outvars, outputs, strict=True))
            for seen in outputs:
                if seen is not None:
                    self._count(where).field = seen
        return [read(v) for v in jaxpr.outvars]

    def _count(self, path: str) -> Count:
        return self.counts.setdefault(path, Count())

    def _equation(
        self, eqn: Any, inputs: list[Field | None], path: str, times: int
    ) -> list[Field | None]:
        name = eqn.primitive.name
        if name == "cond":
            return self._branches(eqn, inputs[1:], path, times)
        if name == "scan":
            return self._scan(eqn, inputs, path, times)
        if name == "while":
            skipped = eqn.params["cond_nconsts"]
            return self.run(eqn.params["body_jaxpr"], inputs[skipped:], path, times)
        for inner in _inner(eqn):
            return self.run(inner, inputs, path, times)
        shapes = [v.aval.shape for v in eqn.invars]
        seen = RULES.get(name, _join)(eqn, inputs, shapes)
        if name in MULTIPLYING and seen is not None:
            out = math.prod(eqn.outvars[0].aval.shape)
            each = MULTIPLYING[name](eqn, shapes)
            count = self._count(path)
            count.macs += times * round(out * each * self.share.get(path, 1.0))
            count.activations += times * out
        return [seen] * len(eqn.outvars)

    def _branches(
        self, eqn: Any, inputs: list[Field | None], path: str, times: int
    ) -> list[Field | None]:
        """Of the branches of a condition, the one with the most to compute."""
        tried = []
        for branch in eqn.params["branches"]:
            walk = Walk(self.share)
            outputs = walk.run(branch, inputs, path, times)
            tried.append((sum(c.macs for c in walk.counts.values()), walk, outputs))
        _, walk, outputs = max(tried, key=lambda t: t[0])
        for where, count in walk.counts.items():
            mine = self._count(where)
            mine.macs += count.macs
            mine.activations += count.activations
            mine.field = count.field or mine.field
        return outputs

    def _scan(
        self, eqn: Any, inputs: list[Field | None], path: str, times: int
    ) -> list[Field | None]:
        """The body counts once for every turn; fields are those after the first turn."""
        body = eqn.params["jaxpr"].jaxpr

        def turned(outer: Any, inner: Any) -> bool:
            """Whether a turn sees one slice of it: not so constants and what is carried."""
            return len(outer.aval.shape) > len(inner.aval.shape)

        ins = [
            _shifted(value, -1) if turned(outer, inner) else value
            for value, outer, inner in zip(inputs, eqn.invars, body.invars, strict=True)
        ]
        outs = self.run(body, ins, path, times * eqn.params["length"])
        return [
            _shifted(value, 1) if turned(outer, inner) else value
            for value, outer, inner in zip(outs, eqn.outvars, body.outvars, strict=True)
        ]


def _inner(eqn: Any) -> Iterator[Any]:
    """The jaxpr that an equation calls with its own inputs: jit, remat, custom derivatives."""
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = eqn.params.get(key)
        if inner is not None and hasattr(getattr(inner, "jaxpr", inner), "eqns"):
            yield inner


def _put[T](values: tuple[T, ...], i: int, value: T) -> tuple[T, ...]:
    return (*values[:i], value, *values[i + 1 :])


def _shifted(seen: Field | None, by: int) -> Field | None:
    """A field without its leading axis, or with one more."""
    if seen is None:
        return None
    return replace(seen, axes=tuple(None if a is None or a + by < 0 else a + by for a in seen.axes))


def _join(eqn: Any, inputs: list[Field | None], shapes: list[tuple[int, ...]]) -> Field | None:
    """Element by element: the widest field of the operands, over the axes that go on."""
    out = eqn.outvars[0].aval.shape if eqn.outvars else ()
    fields = []
    for seen, shape in zip(inputs, shapes, strict=True):
        if seen is not None:
            same = len(shape) == len(out)
            now = seen if same else seen.moved(shape, lambda _: None)
            for axis in now.axes:
                # A gather or dynamic slice that keeps one position in several.
                if axis is not None and eqn.primitive.name == "gather" and out[axis]:
                    now = now.windowed(axis, 1, max(1, round(shape[axis] / out[axis])))
            fields.append(now)
    if not fields:
        return None
    axes = tuple(next((a for a in col if a is not None), None)
                 for col in zip(*(f.axes for f in fields), strict=True))  # fmt: skip
    reach = tuple(max(col) for col in zip(*(f.reach for f in fields), strict=True))
    jump = tuple(max(col) for col in zip(*(f.jump for f in fields), strict=True))
    return Field(reach, jump, axes)


def _conv(eqn: Any, inputs: list[Field | None], shapes: list[tuple[int, ...]]) -> Field | None:
    seen = inputs[0]
    if seen is None:
        return _join(eqn, inputs, shapes)
    numbers, strides = eqn.params["dimension_numbers"], eqn.params["window_strides"]
    for i, axis in enumerate(numbers.lhs_spec[2:]):
        taps = shapes[1][numbers.rhs_spec[2 + i]]
        window = eqn.params["rhs_dilation"][i] * (taps - 1) + 1
        seen = seen.windowed(axis, window, strides[i])
    to = dict(zip(numbers.lhs_spec[2:], numbers.out_spec[2:], strict=True))
    return seen.moved(shapes[0], to.get)


def _conv_macs(eqn: Any, shapes: list[tuple[int, ...]]) -> int:
    """Taps times input channels of a group: padded taps count, as in the papers."""
    features = eqn.params["dimension_numbers"].rhs_spec[0]
    return math.prod(shapes[1]) // shapes[1][features]


def _dot(eqn: Any, inputs: list[Field | None], shapes: list[tuple[int, ...]]) -> Field | None:
    side = 0 if inputs[0] is not None else 1
    seen, shape = inputs[side], shapes[side]
    if seen is None:
        return None
    contract, batch = eqn.params["dimension_numbers"]
    free = [a for a in range(len(shape)) if a not in contract[side] and a not in batch[side]]
    before = len(batch[0])
    if side:  # the free axes of the left operand come first
        before += len(shapes[0]) - len(contract[0]) - len(batch[0])
    to = {a: i for i, a in enumerate(batch[side])}
    to |= {a: before + i for i, a in enumerate(free)}
    return seen.moved(shape, to.get)


def _dot_macs(eqn: Any, shapes: list[tuple[int, ...]]) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    return math.prod(shapes[0][a] for a in contracted)


def _window(eqn: Any, inputs: list[Field | None], shapes: list[tuple[int, ...]]) -> Field | None:
    seen = inputs[0]
    if seen is None:
        return None
    dilations = eqn.params.get("window_dilation") or (1,) * len(shapes[0])
    windows, strides = eqn.params["window_dimensions"], eqn.params["window_strides"]
    for axis, (size, stride, dilation) in enumerate(zip(windows, strides, dilations, strict=True)):
        seen = seen.windowed(axis, dilation * (size - 1) + 1, stride)
    return seen


def _reduce(eqn: Any, inputs: list[Field | None], shapes: list[tuple[int, ...]]) -> Field | None:
    seen, gone = inputs[0], eqn.params["axes"]
    if seen is None:
        return None
    return seen.moved(
        shapes[0], lambda a: None if a in gone else a - sum(1 for other in gone if other < a)
    )


def _reshape(eqn: Any, inputs: list[Field | None], shapes: list[tuple[int, ...]]) -> Field | None:
    """An axis goes on where the output has one of its size after as many elements."""
    seen, out = inputs[0], eqn.outvars[0].aval.shape
    if seen is None:
        return None
    places = {(math.prod(out[:a]), n): a for a, n in enumerate(out) if n > 1}
    return seen.moved(shapes[0], lambda a: places.get((math.prod(shapes[0][:a]), shapes[0][a])))


def _transpose(eqn: Any, inputs: list[Field | None], shapes: list[tuple[int, ...]]) -> Field | None:
    seen = inputs[0]
    return seen and seen.moved(shapes[0], eqn.params["permutation"].index)


def _broadcast(eqn: Any, inputs: list[Field | None], shapes: list[tuple[int, ...]]) -> Field | None:
    seen = inputs[0]
    return seen and seen.moved(shapes[0], lambda a: eqn.params["broadcast_dimensions"][a])


def _slice(eqn: Any, inputs: list[Field | None], shapes: list[tuple[int, ...]]) -> Field | None:
    seen, strides = inputs[0], eqn.params["strides"]
    for axis, stride in enumerate(strides or ()):
        seen = seen and seen.windowed(axis, 1, stride)
    return seen


Rule = Callable[[Any, list[Field | None], list[tuple[int, ...]]], Field | None]

RULES: Mapping[str, Rule] = {
    "conv_general_dilated": _conv,
    "dot_general": _dot,
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    **{f"reduce_window_{kind}": _window for kind in ("sum", "max", "min")},
    "reduce_window": _window,
    **{f"reduce_{kind}": _reduce for kind in ("sum", "max", "min", "prod", "and", "or")},
    "argmax": _reduce,
    "argmin": _reduce,
}

MULTIPLYING: Mapping[str, Callable[[Any, list[tuple[int, ...]]], int]] = {
    "conv_general_dilated": _conv_macs,
    "dot_general": _dot_macs,
}
"""Multiply-adds per element of the output."""

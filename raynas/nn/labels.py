"""Names of decisions: what is given by the user, and module paths for all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from raynas.core.errors import InvalidSpace, nearest

MAX_NESTING = 32  # copies and pickles of a deeper model exceed Python's recursion limit


class Labelled(nn.Module):
    """A module with a label, by which decisions are named.

    Attributes:
        label: None until ``name_labels`` gives it its module path.
        holders: names of the children through which labels do not go, such as ``candidates``.
        is_scope: whether labels below it begin with its own instead of its path.
        decides: whether it stands for a decision, and counts as a level of nesting.
        tied_to: in a copy, the one module whose label it takes.
        references: labels that must stand earlier in the model.
    """

    label: str | None = None
    holders: tuple[str, ...] = ()
    is_scope = False
    decides = False
    tied_to: tuple[Labelled, ...] = ()

    @property
    def root_label(self) -> str:
        """The label of a whole model, whose module path is empty."""
        return type(self).__name__

    @property
    def key(self) -> str | None:
        """Another word for ``label``."""
        return self.label

    @property
    def references(self) -> tuple[str, ...]:
        """Labels that must stand earlier in the model."""
        return ()

    def name_values(self, path: str) -> None:
        """Give unlabelled values among the constructor's arguments labels below ``path``."""

    def resolve(self, labelled: Mapping[str, Sequence[Labelled]]) -> None:
        """Note what stands behind the labels in ``references``, given the model's by label."""


def name_labels(model: nn.Module) -> None:
    """Give every mutable, scope and value without a label one made of its module path.

    The path is that of a model written without choices. Below a scope it begins with the scope's
    label, so that scopes of one label decide together.

    Raises:
        InvalidSpace: choices are nested more than 32 deep.
        TypeError: the model is no module.
    """
    if not isinstance(model, nn.Module):
        came = f"the class {model.__name__}" if isinstance(model, type) else repr(model)
        raise TypeError(f"expected a model, an instance of nn.Module, got {shortened(came)}")
    labelled = list[Labelled]()
    for path, module, prefix, depth in _walk(model):
        if depth > MAX_NESTING:
            raise InvalidSpace(
                f"choices are nested {depth} deep, expected at most {MAX_NESTING}: "
                f"{shortened(path)}"
            )
        if module.label is None:
            tied = module.tied_to  # the original of a copy stands before it, so it has its label
            module.label = tied[0].label if tied else prefix or module.root_label
        module.name_values(prefix)
        labelled.append(module)
    by_label: dict[str, list[Labelled]] = {}
    for module in labelled:
        by_label.setdefault(str(module.label), []).append(module)
    for module in labelled:
        module.resolve(by_label)


def shortened(text: str, most: int = 80) -> str:
    """Return a text without its middle where it is longer than ``most`` characters.

    >>> shortened("features.candidates.in.candidates.out", 20)
    'features...dates.out'
    """
    if len(text) <= most:
        return text
    half = (most - 3) // 2
    return f"{text[:half]}...{text[len(text) - (most - 3 - half) :]}"


def _walk(model: nn.Module) -> Iterator[tuple[str, Labelled, str, int]]:
    """Yield module path, module, label path, and depth of nesting of all that has a label.

    The caller labels what it is given before it asks for the next: what lies below a scope takes
    its path from the scope's label. A module that is registered twice is seen at its first path, as
    in ``state_dict``.
    """
    # A stack of our own: a model may be deeper than Python recurses, and is to be refused by name.
    seen: set[nn.Module] = set()
    stack: list[tuple[nn.Module, str, str, int]] = [(model, "", "", 0)]
    while stack:
        module, path, prefix, depth = stack.pop()
        if module in seen:
            continue
        seen.add(module)
        held: tuple[str, ...] = ()
        if isinstance(module, Labelled):
            held, depth = module.holders, depth + module.decides
            yield path, module, prefix, depth
            if module.is_scope:
                prefix = str(module.label)
        for name, child in reversed(module._modules.items()):  # the stack turns them round again
            if child is not None:
                # A label has the names that users gave to candidates, and not that of the container
                # in which a choice keeps them.
                inner = prefix if name in held else f"{prefix}.{name}" if prefix else name
                stack.append((child, f"{path}.{name}" if path else name, inner, depth))


def check_references(model: nn.Module) -> None:
    """Raise InvalidSpace unless what an ``InputChoice`` names stands before it."""
    labelled = [m for m in model.modules() if isinstance(m, Labelled)]
    if not any(module.references for module in labelled):
        return
    labels = {str(module.label) for module in labelled}
    before: set[str] = set()

    def visit(module: nn.Module) -> None:
        for child in module.children():
            visit(child)
        if isinstance(module, Labelled):
            for key in module.references:
                if key not in before:
                    raise InvalidSpace(_unknown(str(module.label), key, labels))
            before.add(str(module.label))  # after its children: nothing inside may refer to it

    visit(model)


def _unknown(own: str, key: str, labels: set[str]) -> str:
    why = (
        "which stands after it or holds it: its input would depend on itself"
        if key in labels
        else f"which labels nothing in this model; {nearest(key, labels)}"
    )
    return f"InputChoice {own!r}: choose_from names {key!r}, {why}"

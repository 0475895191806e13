"""Pages for the API, from the source: one for each public name of ``incnet``, one for each package or single module.

What is written here are stubs, in ``docs/api``, which autodoc fills with docstrings. Each object is on one page. A
reference may call it by any name that its docstring's source could use; :class:`Resolve` finds the page.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import desc_signature, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode

# Kernels of the other backends: the same functions, which have their definitions and docstrings in ``reference``.
LEFT_OUT = ("incnet.kernels.cpu", "incnet.kernels.cuda")
LONGEST_VALUE = 60
# Public classes that have methods of a base which has no public name.
WITH_INHERITED = ("Graph",)
# What the page of a public name says besides its docstring.
BESIDES = {"Config": "Its fields are the options of ``incnet train``; :doc:`/options` describes them."}
# What other packages and Python itself call by these names has no page here.
OTHERS = {*dir(builtins), *sys.stdlib_module_names, "markupsafe", "matplotlib", "np", "numpy", "onnx", "rich", "scipy"}


@dataclass(frozen=True)
class Module:
    """A module, read and not run.

    Attributes
    ----------
    name : str
        In full.
    tree : ast.Module
        Its statements.
    lines : list of str
        Its source.
    """

    name: str
    tree: ast.Module
    lines: list[str]

    @functools.cached_property
    def defined(self) -> dict[str, ast.stmt]:
        """The statement that defines each of its names."""
        found: dict[str, ast.stmt] = {}
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found[node.name] = node
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = ast.walk(ast.Tuple(node.targets if isinstance(node, ast.Assign) else [node.target]))
                found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
        return found

    @functools.cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """The module and the name there of each name that it imports from another one."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                package = self.name if is_package(self.name) else self.name.rpartition(".")[0]
                origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                found |= {alias.asname or alias.name: (origin, alias.name) for alias in node.names}
        return found

    @functools.cached_property
    def public(self) -> list[str]:
        """``__all__``; where there is none, what it defines under a name that begins with a letter."""
        if "__all__" in self.defined:
            return list(ast.literal_eval(self.defined["__all__"].value))  # type: ignore[attr-defined]
        return [
            name
            for name, node in self.defined.items()
            if not name.startswith("_") and isinstance(node, ast.ClassDef | ast.FunctionDef)
        ]

    def comment(self, name: str) -> str:
        """Return the comment above the statement that defines a name."""
        line, found = self.defined[name].lineno - 2, []
        while line >= 0 and self.lines[line].startswith("#"):
            found.append(self.lines[line].lstrip("#: "))
            line -= 1
        return " ".join(reversed(found))


@functools.cache
def is_package(name: str) -> bool:
    """Whether a module has modules below it."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None


@functools.cache
def modules() -> dict[str, Module]:
    """Return all modules of incnet that have a page, and ``incnet.api``, by name."""
    found = {}
    for name in sorted(_names("incnet")):
        path = Path(importlib.util.find_spec(name).origin)  # type: ignore[union-attr, arg-type]
        source = path.read_text(encoding="utf-8")
        found[name] = Module(name, ast.parse(source), source.splitlines())
    return found


def _names(package: str) -> Iterator[str]:
    yield package
    for folder in importlib.util.find_spec(package).submodule_search_locations:  # type: ignore[union-attr]
        for path in Path(folder).iterdir():
            name = f"{package}.{path.stem}"
            if name in LEFT_OUT or path.stem.startswith("_"):
                continue
            if (path / "__init__.py").exists():
                yield from _names(name)
            elif path.suffix == ".py":
                yield name


def home(module: str, name: str) -> tuple[str, str]:
    """Return the module that defines a name which another one imports, and the name there."""
    while module in modules() and name not in modules()[module].defined and name in modules()[module].imported:
        module, name = modules()[module].imported[name]
    return module, name


@functools.cache
def public() -> dict[tuple[str, str], str]:
    """Return where each public name of ``incnet`` is defined, in the order of ``incnet.__all__``."""
    return {home("incnet.api", name): name for name in modules()["incnet"].public}


# Stubs.


def write_stubs(app: Sphinx) -> None:
    """Write ``docs/api``. What is as it was keeps its time, so that Sphinx reads what has changed."""
    folder = Path(app.srcdir, "api")
    single = [module for name, module in modules().items() if name.count(".") == 1 and name != "incnet.api"]
    write(folder / "names", {f"incnet.{name}": object_page(*at, name) for at, name in public().items()})
    write(folder / "modules", {module.name: module_page(module) for module in single})
    write(folder, {"index": index_page()})


def write(folder: Path, pages: dict[str, str]) -> None:
    """Write pages, and remove what else is in their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


INTRODUCTION = """\
``import incnet`` offers what a user needs, each name imported when it is first used; all else is in its modules. Images
are arrays (N, H, W, C): images, height, width, channels. Every description links to its source.
"""


def index_page() -> str:
    """Return the page of all public names, in the groups of ``incnet.__all__``, and of the modules."""
    lines = [*title("API", "="), "", INTRODUCTION]
    for heading, names in groups().items():
        lines += [*title(heading, "-"), "", ".. autosummary::", "   :nosignatures:", "   :toctree: names", ""]
        lines += [*(f"   incnet.{name}" for name in names), ""]
    lines += [*title("Modules", "-"), "", ".. toctree::", "   :maxdepth: 1", "   :glob:", "", "   modules/*", ""]
    return "\n".join(lines)


def groups() -> dict[str, list[str]]:
    """Return the names of ``incnet.__all__`` by the comments above them."""
    found: dict[str, list[str]] = {}
    module = modules()["incnet"]
    for element in module.defined["__all__"].value.elts:  # type: ignore[attr-defined]
        line = element.lineno - 2
        while not (text := module.lines[line].strip()).startswith("#"):
            line -= 1
        found.setdefault(text.lstrip("# ").rstrip("."), []).append(element.value)
    return found


def object_page(module: str, name: str, public_name: str) -> str:
    """Return the page of a public name."""
    lines = described(modules()[module], name, "incnet", public_name)
    origin = " ".join([f"From ``{module}``.", *([BESIDES[public_name]] if public_name in BESIDES else [])])
    return "\n".join([*title(public_name, "="), "", origin, "", *lines])


def module_page(module: Module) -> str:
    """Return the page of a module and those in it."""
    lines = [*title(module.name, "="), "", *module_section(module)]
    for name, inner in modules().items():
        if name.startswith(f"{module.name}."):
            lines += ["", *title(name, "-"), "", *module_section(inner)]
    return "\n".join(lines) + "\n"


def own(module: Module) -> list[str]:
    """Return the names that a module defines and publishes, and that are described with it."""
    return [
        name
        for name in module.public
        if home(module.name, name) == (module.name, name) and (module.name, name) not in public()
    ]


def module_section(module: Module) -> Iterator[str]:
    """Yield what a module says of itself, what it defines, and what else it offers, with references."""
    yield from (f".. automodule:: {module.name}", "   :no-members:", "")
    for name in own(module):
        yield from (*described(module, name, module.name, name), "")
    elsewhere = [home(module.name, name) for name in module.public if name not in own(module)]
    if elsewhere:
        names = (f"incnet.{public()[where]}" if where in public() else ".".join(where) for where in elsewhere)
        yield from ("Also here: " + ", ".join(f":py:obj:`~{name}`" for name in names) + ".", "")


def title(text: str, line: str) -> list[str]:
    """Return a heading."""
    return [text, line * len(text)]


def described(module: Module, name: str, shown_module: str, shown: str) -> Iterator[str]:
    """Yield the directive that describes an object as ``shown_module.shown``."""
    node = module.defined[name]
    if isinstance(node, ast.ClassDef):
        yield from (
            f".. autoclass:: {shown_module}.{shown}",
            "   :members:",
            *(["   :show-inheritance:"] * bool(node.bases)),
            *(["   :inherited-members: Layer"] * (shown in WITH_INHERITED)),
        )
    elif isinstance(node, ast.FunctionDef):
        yield f".. autofunction:: {shown_module}.{shown}"
    else:
        value = ast.unparse(node.value)  # type: ignore[attr-defined]
        yield from (f".. py:data:: {shown}", f"   :module: {shown_module}")
        if len(value) <= LONGEST_VALUE:
            yield f"   :value: {value}"
        yield from ("", f"   {module.comment(name)}")


# Docstrings and signatures.


def as_written(
    app: Sphinx, what: str, name: str, found: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Return a signature with its annotations as the source has them: ``Array``, not what that stands for."""
    if signature is None or what not in ("class", "function", "method"):
        return None
    try:
        whole = inspect.signature(found)
    except (TypeError, ValueError):
        return None
    parameters = list(whole.parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        del parameters[0]
    parameters = [
        parameter.replace(default=WITHHELD)
        if parameter.default is not parameter.empty and repr(parameter.default).startswith("<")
        else parameter
        for parameter in parameters
    ]
    shown = stringify_signature(whole.replace(parameters=parameters))
    arguments, arrow, result = shown.rpartition(" -> ")
    if not arrow:
        return shown, None
    return arguments, None if what == "class" else result


class Withheld:
    """A default value that has no form in source."""

    def __repr__(self) -> str:
        return "..."


WITHHELD = Withheld()


def stash_property(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Keep a property's docstring from napoleon, which takes its first words, up to a colon, for a type."""
    if what == "property":
        app.env.temp_data[f"api:{name}"] = lines[:]


def restore_property(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Put a property's docstring back."""
    if what == "property":
        lines[:] = app.env.temp_data.pop(f"api:{name}")


def set_dashes(app: Sphinx, doctree: nodes.document) -> None:
    """Let a dash, not two hyphens, stand between a parameter or an error and its meaning."""
    for text in list(doctree.findall(nodes.Text)):
        if text.startswith((" -- ", ") -- ")):
            text.parent.replace(text, nodes.Text(text.replace("--", "\N{EN DASH}", 1)))


# References.


class Resolve(SphinxPostTransform):
    """Find what a reference means by another name than that of its page.

    It may name an object where it is defined, and not as ``incnet`` offers it; or as the docstring's source can; or by
    the last part of its name, if only one object has that. In a signature, what other packages define, and what is
    private to the source, stays text. What is not found here is left to Sphinx, which warns.
    """

    default_priority = 5  # before Sphinx looks for names that end alike

    def run(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(pending_xref)):
            if node.get("refdomain") == "py":
                self.resolve(node)

    def resolve(self, node: pending_xref) -> None:
        """Replace a reference by a link, or by text."""
        target, source = node["reftarget"], source_of(node, self.env.docname)
        if node["reftype"] == "mod":  # a function may be called like its module
            module, name, rest = "", "", ""
        else:
            module, name, rest = locate(target) or locate(f"{source}.{target}") or ("", "", "")
        if node["reftype"] in ("class", "obj") and is_foreign(target, module, name):
            node.replace_self(node.children)
            return
        objects = self.env.domains.python_domain.objects
        enclosing = f"{source}.{node.get('py:class')}.{target}"
        found = [full for full in map(as_shown, (f"{module}.{name}{rest}", enclosing, target)) if full in objects]
        if not found:
            alike = [full for full, entry in objects.items() if full.endswith(f".{target}") and not entry.aliased]
            found = alike if len(alike) == 1 else []
        if found:
            entry = objects[found[0]]
            content = node.children[0]
            args = (
                self.app.builder,
                self.env.docname,
                entry.docname,
                entry.node_id,
                content,
                found[0],
            )
            node.replace_self(make_refnode(*args))


def source_of(node: pending_xref, page: str) -> str:
    """Return the module whose source a reference stands in, on a page."""
    name = page.removeprefix("api/names/incnet.")
    return next((module for (module, _), each in public().items() if each == name), node.get("py:module") or "")


def locate(target: str) -> tuple[str, str, str] | None:
    """Return the module that defines what a full name means, the name there, and what follows it, if anything."""
    parts = target.split(".")
    for i in reversed(range(1, len(parts))):
        module = ".".join(parts[:i])
        if module in modules() and parts[i] in {*modules()[module].defined, *modules()[module].imported}:
            return (*home(module, parts[i]), "".join(f".{part}" for part in parts[i + 1 :]))
    return None


def is_foreign(target: str, module: str, name: str) -> bool:
    """Whether a type is another package's, Python's own, or private to the module that defines it."""
    if target.partition(".")[0] in OTHERS:
        return True
    return bool(module) and (module not in modules() or name not in modules()[module].public)


def as_shown(target: str) -> str:
    """Return a full name as the pages have it: what is public is called ``incnet.NAME``, wherever it is defined."""
    for (module, name), public_name in public().items():
        if target == f"{module}.{name}" or target.startswith(f"{module}.{name}."):
            return f"incnet.{public_name}" + target.removeprefix(f"{module}.{name}")
    return target


def add_homes(app: Sphinx, doctree: nodes.document) -> None:
    """Let what is described as ``incnet.NAME`` be found by the name where it is defined, too: source pages link so."""
    for (module, name), public_name in public().items():
        if app.env.docname == f"api/names/incnet.{public_name}":
            for signature in doctree.findall(desc_signature):
                shown = signature["ids"][0]
                signature["ids"].append(f"{module}.{name}{shown.removeprefix(f'incnet.{public_name}')}")


def source_module(app: Sphinx, module: str, attribute: str) -> str:
    """Return the module whose source page shows an object."""
    return home("incnet.api" if module == "incnet" else module, attribute.partition(".")[0])[0]


def name_source_pages(app: Sphinx, env: BuildEnvironment) -> None:
    """Let source pages link back by the names where things are defined, whichever page was read first."""
    pages = getattr(env, "_viewcode_modules", {})
    for module, entry in pages.items():
        if entry:
            code, tags, used, _ = entry
            pages[module] = (code, tags, used, module)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_stubs)
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-process-docstring", stash_property, priority=400)
    app.connect("autodoc-process-docstring", restore_property, priority=600)
    app.connect("doctree-read", add_homes)
    app.connect("doctree-read", set_dashes)
    app.connect("viewcode-follow-imported", source_module)
    app.connect("env-check-consistency", name_source_pages)
    app.add_post_transform(Resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Hooks of the site (``mkdocs.yml``): what lies outside ``docs/`` becomes pages of it, and links follow.

README, CONTRIBUTING and CHANGELOG are read where they are, so that nothing stands twice. The page of the API is made from the
names that ``kdbench`` offers; each is rendered from its docstring.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: pages by the file in the repository that they are made of
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
#: other files of the repository that pages link to; the site has copies
COPIED = re.compile(r"\]\(((?:\.\./)*(?:configs|kdbench|tests)/[^)#\s]+)\)")
_LINK = re.compile(r"\]\(((?!https?:|#|mailto:)[^)#\s]+)(#[^)\s]*)?\)")
_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):<code>~?(.*?)</code>")
#: sections of the API's page
API = {
    "Configurations and runs": "load_config train train_teacher train_cohort evaluate RunResult Tracker register_tracker",
    "Grids and results": "run_grid load_results load_curves",
    "Tables, statistics, plots": "build_table render_table scores ranks differences summarise friedman pair_tests "
    "plot_table plot_differences plot_curves plot_cost plot_ranks build_report",
    "Methods": "create_distiller list_distillers register_distiller Distiller Batch DataInfo",
    "Networks": "create_model list_models register_model wrap_model FeatureModel ModelOutput ModelSpec StageSpec",
    "Data": "register_dataset list_datasets DataSource MemorySplit data_from_arrays data_from_datasets",
    "Errors": "KdbenchError",
}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and files that ``docs/`` lacks."""
    from mkdocs.structure.files import File

    for source, name in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=moved(text, source, name)))
        for target in COPIED.findall(text):
            _copy(files, config, posixpath.normpath(target))
    files.append(File.generated(config, "api.md", content=api_page()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links that leave ``docs/`` lead to the site's own pages."""
    source = page.file.src_uri
    if source in OUTSIDE.values():
        return markdown
    return moved(markdown, f"docs/{source}", source)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Docstrings name objects as Sphinx does; here they are code."""
    return _ROLE.sub(r"<code>\1</code>", html)


def moved(text: str, source: str, name: str) -> str:
    """A page's links, as they are to be once it is a page of the site.

    Args:
        text: Markdown.
        source: its file, relative to the repository.
        name: of the page, relative to the site.
    """

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        there = OUTSIDE.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else target)
        return f"]({posixpath.relpath(there, posixpath.dirname(name) or '.')}{match[2] or ''})"

    parts = re.split(r"(?s)(```.*?```|`[^`\n]*`)", text)  # code has no links
    return "".join(part if number % 2 else _LINK.sub(link, part) for number, part in enumerate(parts))


def api_page() -> str:
    """A section a subject, an entry a public name."""
    import kdbench

    named = [name for names in API.values() for name in names.split()]
    missing = sorted({*kdbench.__all__} - {*named, "functional", "__version__"})
    if missing or len(set(named)) != len(named):
        raise ValueError(f"tools/site_hooks.py: API has not these names of kdbench, or twice: {', '.join(missing)}")
    lines = ["# Python API", "", "Everything here is an attribute of `kdbench` and is imported at its first use."]
    lines += ["Losses are functions of `kdbench.functional`; each [method's page](methods/README.md) names its own."]
    for title, names in API.items():
        lines += ["", f"## {title}", ""]
        lines += [f"::: {kdbench._PUBLIC[name]}.{name}" for name in names.split()]
    return "\n".join(lines) + "\n"


def _copy(files: Any, config: Any, target: str) -> None:
    from mkdocs.structure.files import File

    if files.get_file_from_path(target) is None:
        files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))

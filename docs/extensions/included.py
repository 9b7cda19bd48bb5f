"""Pages that are written elsewhere in the repository, each once: a hook of MkDocs.

What such a page links to comes along, pictures and results, so that its links hold.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# As seen from the pages, a folder's README keeps its folder, and so its links hold as they are.
PAGES = {
    "benchmarks/index.md": "benchmarks/README.md",
    "experiments/index.md": "experiments/README.md",
    "changelog.md": "CHANGELOG.md",
}
LINK = re.compile(r"""(?:\]\(|src=")([^)"#\s]+)""")


def on_files(files: Files, config: Any, **kwargs: Any) -> Files:
    """Add the pages and what they link to."""
    for page, source in PAGES.items():
        content = (ROOT / source).read_text(encoding="utf-8").replace("](../docs/", "](../")
        for other, path in PAGES.items():
            content = content.replace(f"](../{path}", f"](../{other}")
        files.append(File.generated(config, page, content=content))
        for link in sorted(set(LINK.findall(content))):
            target = ((ROOT / source).parent / link).resolve()
            if target.is_file() and target.suffix != ".md" and target.is_relative_to(ROOT):
                uri = (Path(page).parent / link).as_posix()
                files.append(File.generated(config, uri, abs_src_path=str(target)))
    return files

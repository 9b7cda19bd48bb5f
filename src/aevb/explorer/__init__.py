"""A fitted model in a page: drag a point over the latent map, and the decoded case follows.

`page` makes a document that needs nothing else, `embed` a part of one, `Explorer` a widget for
notebooks. The networks run in the page (`program`), in plain JavaScript.
"""

from aevb.explorer.content import payload
from aevb.explorer.document import embed, page, scripts, styles
from aevb.explorer.programs import NotInAPage, program

__all__ = ["NotInAPage", "embed", "page", "payload", "program", "scripts", "styles"]

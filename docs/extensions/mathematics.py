"""Mathematics as MathML, which browsers set by themselves: a hook of MkDocs.

Arithmatex finds the formulas; a page then needs no script, and nothing from elsewhere.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)

# Functions stand off what they are applied to; browsers set them like any other name.
FUNCTION = re.compile(r"(<mi>(?:exp|log)</mi>)(?=<m(?!o))")

SIM = "<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>"  # a relation, where the converter has a letter


def to_mathml(content: str) -> str:
    """Return the HTML of a page with its formulas as MathML."""

    def mathml(match: re.Match) -> str:
        tag, latex = match[1], html.unescape(match[2]).strip()
        display = "block" if tag == "div" else "inline"
        formula = convert(latex, display=display).replace(*SIM)
        formula = FUNCTION.sub(r'\1<mspace width="0.17em"/>', formula)
        return f'<{tag} class="formula">{formula}</{tag}>'

    return FORMULA.sub(mathml, content)


def on_page_content(content: str, **kwargs: Any) -> str:
    """Set the formulas of a page."""
    return to_mathml(content)

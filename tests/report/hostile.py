"""What a model may write to run a script in the page that shows it; each would set `window.ran`."""

from __future__ import annotations

_IMAGE = "<img/src='x'/onerror='window.ran=1'>"
_MARKUP = (
    _IMAGE,
    "<details/open/ontoggle=window.ran=2><summary>x</summary></details>",
    "<svg/onload=window.ran=3>",
    "<script>window.ran=4</script>",
    "<iframe/srcdoc='<script>parent.ran=5</script>'></iframe>",
    "<a/href='javascript:window.ran=6'/autofocus/onfocus=window.ran=6>x</a>",
    "<input/autofocus/onfocus=window.ran=7>",
    "<style>@import'//x'</style><body/onload=window.ran=8>",
    "</mtext></math><img/src=x/onerror=window.ran=9>",
    "<annotation-xml/encoding='text/html'><img/src=x/onerror=window.ran=10>",
    "<mglyph><style></math><img/src=x/onerror=window.ran=11></style>",
    "&lt;img src=x onerror=window.ran=12&gt;",
    "&#60;img src=x onerror=window.ran=13&#62;",
    "]]><img/src=x/onerror=window.ran=14><![CDATA[",
    "<!--><img/src=x/onerror=window.ran=15>-->",
    "<?xml-stylesheet/href='javascript:window.ran=16'?>",
)

PAYLOADS = (
    *(f"$\\text{{{markup}}}$" for markup in _MARKUP),
    f"$$\\mbox{{{_IMAGE}}}$$",
    f"\\[\\textbf{{{_IMAGE}}}\\]",
    f"\\(\\hbox{{{_IMAGE}}}\\)",
    f"$\\mathrm{{{_IMAGE}}}$",
    f"$\\operatorname{{{_IMAGE}}}$",
    f"$\\verb|{_IMAGE}|$",
    f"$\\fbox{{{_IMAGE}}}$",
    "$\\href{javascript:window.ran=17}{click}$",
    "$\\color{red'onmouseover='window.ran=18}{x}$",
    '$\\colorbox{"><img/src=x/onerror=window.ran=19>}{x}$',
    "$\\style{background:url(javascript:window.ran=20)}{x}$",
    "$\\unicode{3c}img/src=x/onerror=window.ran=21\\unicode{3e}$",
    "$\\rule{1em'onclick='window.ran=22}{1em}$",
    f"$x^{{\\text{{{_IMAGE}}}}}$",
    f"plain {_IMAGE} and </script><script>window.ran=23</script>",
    "{{script}}{{hash}}\u2028window.ran=24\u2029//",
    "<!-- <script> window.ran=25",
    "$\\text{\x00\x0b<img/src=x/onerror=window.ran=26>}$",
)

"""What users may write, and what no view may take for markup: at least a hundred strings that would run a script."""

from __future__ import annotations

_CALL = "window.__hit=1"
_TAGS = [
    "script>%s</script",
    "img src=x onerror=%s",
    "svg onload=%s",
    "svg/onload=%s",
    "body onload=%s",
    "iframe srcdoc='<script>parent.%s</script>'",
    "details open ontoggle=%s",
    "video><source onerror=%s",
    "audio src=x onerror=%s",
    "input autofocus onfocus=%s",
    "select autofocus onfocus=%s",
    "textarea autofocus onfocus=%s",
    "marquee onstart=%s",
    "object data='javascript:%s'",
    "embed src='javascript:%s'",
    "math><mtext><script>%s</script></mtext></math",
    "style onload=%s",
    "link rel=stylesheet href=x onerror=%s",
    "meta http-equiv=refresh content='0;url=javascript:%s'",
    "base href='javascript:%s//'",
    "form action='javascript:%s'><button>x</button",
    "a href='javascript:%s'>x</a",
    "image href=x onerror=%s",
    "animate onbegin=%s attributeName=x dur=1s",
    "foreignObject><script>%s</script></foreignObject",
]
_BREAKS = [
    "",
    "</title>",
    "</text>",
    "</svg>",
    "</style>",
    "</script>",
    "</td></tr></table>",
    "</pre>",
    "-->",
    "]]>",
    "'>",
    '">',
    '\\">',
]
_OTHERS = [
    "javascript:%s",
    "JaVaScRiPt:%s",
    "data:text/html,<script>%s</script>",
    "&#60;script&#62;%s&#60;/script&#62;",
    "&lt;script&gt;%s&lt;/script&gt;",
    "&#x3c;img src=x onerror=%s&#x3e;",
    "<<b>%s</b>>",
    "<table><tr><td href='javascript:%s'>x</td></tr></table>",
    "<B>%s</B>",
    'x" URL="javascript:%s',
    'x"]; n0 [URL="javascript:%s"',
    "\\N\\G\\L%s\\",
    "label=<%s>",
    "{%s|<f0> x}",
    "}; digraph { %s",
    "\u202e%s\u202c",
    "\x1b]8;;javascript:%s\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[31m%s\x1b[0m",
    "\x00%s\x00",
    "${%s}",
    "{{%s}}",
    "`%s`",
    "$(%s)",
    "<!--%s-->",
    "<![CDATA[%s]]>",
    "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY y '%s'>]>&y;",
    "\ufeff<script>%s</script>",
    "\ud800%s",
    "%s\r\n\r\n<script>",
    "@import 'javascript:%s';",
    "url(javascript:%s)",
    "expression(%s)",
    "*{background:url('javascript:%s')}",
    "+ADw-script+AD4-%s+ADw-/script+AD4-",
    "\uff1cscript\uff1e%s",
]

#: Every one sets ``window.__hit`` where it is taken for markup.
CORPUS: tuple[str, ...] = tuple(
    dict.fromkeys(
        [
            *(f"<{tag.replace('%s', _CALL)}>" for tag in _TAGS),
            *(f"{end}<img src=x onerror={_CALL}>" for end in _BREAKS),
            *(f"{end}<script>{_CALL}</script>" for end in _BREAKS),
            *(f"x{end}<svg onload={_CALL}>" for end in _BREAKS),
            *(other.replace("%s", _CALL) for other in _OTHERS),
            *(f"{end}<a href=javascript:{_CALL}>x</a>" for end in _BREAKS),
            f"<script>{_CALL}</script>" * 200,
        ]
    )
)

"""Words that break what is quoted carelessly, each for a reason of its own."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

QUOTES = (
    "",
    " ",
    "  two  words ",
    "it's",
    'say "hi"',
    "'",
    '"',
    "''",
    '"\'"',
    "\\",
    "end\\",
    "\\n",
)
EXPANDED = ("$HOME", "${HOME}", "$", "$$", "$(id)", "`id`", "$((1+1))", "~", "~root", "!!", "{a,b}")
OPERATORS = (";", "a;b", "&", "&&", "|", ">out", "<in", "(", ")", "#no", "a #b", "A=b", "=", "exec")
GLOBS = ("*", "?", "[a-z]*", "**/*.py")
LINES = (
    "\n",
    "a\nb",
    "a\r\nb",
    "\r",
    "\t",
    "\x01",
    "\x1b[31m",
    "#SBATCH --time=1\n",
    "EOF\nid\nEOF",
)
UNICODE = ("ü", "日本語", "🎉", "e\u0301", "\u00a0", "\u202e", "\u2028", "\ufeff")
DASHES = ("-", "--", "-x", "-c", "--help", "--no", "--n", "--nproc", "--rdzv", "-m", "-np", "-N5")
LAUNCHERS = (
    ":",
    "::",
    "$local_rank",
    "${local_rank}",
    "%j",
    "%%",
    "@file",
    "--mpi=none",
    "x" * 3000,
)

WORDS = (
    *(*QUOTES, *EXPANDED, *OPERATORS, *GLOBS),
    *(*LINES, *UNICODE, *DASHES, *LAUNCHERS),
)

BYTES = ("\udcff", "a\udc80b", "caf\udce9'", "\udcc3\n")
"""Words that are not UTF-8, as Python holds them."""

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
words: st.SearchStrategy[str] = st.one_of(
    st.sampled_from((*WORDS, *BYTES)),
    st.text(characters, max_size=12),
    st.text("ab '\"\\$`\n\r;*-#:=\udcff\udcc3é", max_size=12),
)
texts: st.SearchStrategy[Any] = st.one_of(st.sampled_from(WORDS), st.text(characters, max_size=12))

"""Names that no one means well with, and some that people try."""

NAMES = (
    "", ".", "..", "...", "../x", "../../x", "x/..", "x/../..", "/", "/tmp", "/etc/passwd", "//x", "x/y", "./x", "~", "~root", "-",
    "-rf", "--help", "--debug", ".hidden", "x.", "x.partial", "a b", " a", "a ", "a\t", "a\n", "\n", "a\x00b", "a\x1b[31m",
    "a;touch pwned", "a&touch pwned", "a|touch pwned", "$(touch pwned)", "`touch pwned`", "$HOME", "${HOME}", "a'b", "'; touch pwned; '",
    'a"b', "a\\b", "a*", "a?", "[a]", "{a,b}", "a#b", "a!b", "a@b", "a:b", "a=b", "a%b", "naïve", "名前", "a\u202eb", "a\ud800", "x" * 65,
    "x" * 5000,
)

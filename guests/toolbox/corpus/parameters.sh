#### default
echo ${x:-a} ${x-b}; x=; echo ${x:-a} "${x-b}."
#### assign default
echo ${x:=a} $x; y=; echo "${y=b}." ${y:=c} $y
#### alternative
x=1; echo "${x:+a}" "${x+b}" "${y:+c}." "${y+d}."
#### error
(echo ${x:?is missing}; echo not) 2>/dev/null; echo $?
#### length
x=hello; echo ${#x} ${#y}; set -- a bb; echo ${#} ${#1} ${#2}
#### trim prefix
x=a/b/c; echo ${x#*/} ${x##*/}
#### trim suffix
x=a.tar.gz; echo ${x%.*} ${x%%.*}
#### trim with quoted pattern
x='a*b*c'; echo "${x#"a*"}" "${x%\**}"
#### trim with variable pattern
x=abcabc p='*b'; echo ${x#$p} ${x##$p} "${x##"$p"}"
#### nested
echo ${a:-${b:-${c:-deep}}}
#### words in defaults are split
set -- ${x:-a b c}; echo $#; set -- ${x:-"a b" c}; echo $#
#### quoted default
set -- "${x:-a b}"; echo $#; echo "${x:-"q"}" "${x:-'s'}"
#### braces in default
echo ${x:-a\}b} "${x:-{\}}"
#### positional
set -- a b c d e f g h i j k; echo $1 ${10} ${11} $10
#### shift
set -- a b c d; shift; echo "$*"; shift 2; echo "$* $#"
#### special parameters
false; echo $?; true; echo $?; set -- x y; echo $#
#### unset
x=1; unset x; echo "${x-none}"
#### readonly
readonly x=1; (x=2) 2>/dev/null; echo "$? $x"
#### export
x=1; export x; sh -c 'echo $x'; y=2; sh -c 'echo ${y-none}'
#### for one command
x=1; x=2 sh -c 'echo $x'; echo $x
#### before a function
f() { echo $x; }; x=1; x=2 f; echo $x
#### nounset
set -u; (echo $x; echo not) 2>/dev/null; echo $?; echo ${x-ok} "$@"
#### set replaces arguments
set -- 1 2; set a b c; echo $# $3
#### in a string
x=v; echo "a${x}b$x-c$x"
#### trim everything
x=abc; echo "[${x#*}]" "[${x##*}]" "[${x%?}]" "[${x%%?*}]"
#### default is evaluated only if needed
x=1; echo ${x:-$(echo side >&2)} ${y:-$(echo main)}
#### dollar alone
echo $ a$ "$" $%
#### assignment chain
a=1 b=$a c=$b$a; echo $a $b $c
#### OPTIND
while getopts ab:c x -a -b v -c rest; do echo "$x ${OPTARG-none}"; done; echo $OPTIND
#### getopts joined
set -- -abv -x rest; while getopts :ab: x; do echo "$x ${OPTARG-none}"; done; shift $((OPTIND-1)); echo "$*"
#### getopts missing
set -- -b; getopts :b: x; echo "$x $OPTARG"

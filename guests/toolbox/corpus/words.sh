#### plain words
echo a   b  c
#### single quotes keep everything
echo 'a  $HOME `x` \n "q"' | cat
#### double quotes expand
x='1  2'; echo "$x" $x
#### escapes outside quotes
echo a\ b \$x \\ \"q\"
#### escapes in double quotes
echo "a\$b \"c\" \\ \a"
#### a line goes on
echo one \
two
#### empty words
set -- "" '' x; echo $#
#### unset is nothing
set -- $nothing x; echo $#
#### quoted unset is empty
set -- "$nothing" x; echo $#
#### adjacent quotes
x=b; echo a"$x"'c'd
#### comment
echo a # b
echo a#b
#### newline in quotes
echo "a
b" 'c
d'
#### splitting
x=' a  b '; set -- $x; echo "$#:$1:$2"
#### splitting beside text
x='a b'; set -- 1$x'2'; echo "$#:$1:$2"
#### splitting with other separators
IFS=:; x=a::b:; set -- $x; echo "$#:$1:$2:$3"
#### separators and blanks mixed
IFS=' :'; x=' a : b  c:d'; set -- $x; echo "$#:$1:$2:$3:$4"
#### empty separators split nothing
IFS=; x='a b'; set -- $x; echo $#
#### at keeps arguments
set -- 'a b' c; for x in "$@"; do echo "<$x>"; done
#### star joins
set -- a b c; echo "$*"; IFS=-; echo "$*" $*
#### at without arguments
set --; set -- "$@"; echo $#; set -- x"$@"y; echo "$#$1"
#### at beside text
set -- 'a b' 'c d'; for x in 1"$@"2; do echo "<$x>"; done
#### no splitting in assignments
x='a  b'; y=$x; echo "$y"
#### tilde
HOME=/h; echo ~ ~/x a~ '~' "~"; x=~:~/b; echo "$x"
#### patterns
touch a1 a2 b1 .h; echo a* *1 ? [ab]2 [!a]* x*
#### patterns in directories
mkdir -p d/e d/f; touch d/e/x d/f/x d/f/y; echo d/*/x */f/*
#### quoted patterns are text
touch a1; echo "a*" a\* 'a?'
#### patterns from variables
touch a1 a2; x='a*'; echo $x "$x"
#### no patterns with -f
touch a1; set -f; echo a*
#### hidden files
touch .h1 v; echo * .h*
#### pattern classes
touch a1 b2 cc; echo [a-b]? [[:alpha:]][[:digit:]] [!c]*
#### values keep backslashes
x='a\b'; echo "$x" | cat; y="a\\*"; echo "$y" | cat
#### braces are text
echo {a,b} a{1..3}
#### echo escapes
echo 'a\tb\nc'; echo -n x; echo 'stop\c here'
#### double dollar is a number
case $$ in *[!0-9]*|'') echo no;; *) echo yes;; esac

#### sequence
true; echo a; false; echo b
#### and or
true && echo a; false && echo b; false || echo c; true || echo d
#### chain
false && echo a || echo b && echo c
#### not
! true; echo $?; ! false; echo $?
#### if
if true; then echo a; fi; if false; then echo b; else echo c; fi
#### elif
x=2; if [ $x = 1 ]; then echo one; elif [ $x = 2 ]; then echo two; else echo more; fi
#### if without a case
if false; then echo a; fi; echo $?
#### while
x=; while [ "$x" != aaa ]; do x=a$x; echo $x; done
#### until
x=3; until [ $x -eq 0 ]; do echo $x; x=$((x-1)); done
#### for
for x in a b 'c d'; do echo "<$x>"; done; echo $x
#### for over arguments
set -- 1 2; for x; do echo $x; done; for x do echo $x; done
#### for over nothing
for x in; do echo never; done; echo $?
#### break
for x in 1 2 3; do [ $x = 2 ] && break; echo $x; done
#### continue
for x in 1 2 3; do [ $x = 2 ] && continue; echo $x; done
#### break two
for x in 1 2; do for y in a b; do [ $y = b ] && break 2; echo $x$y; done; done; echo end
#### continue two
for x in 1 2; do for y in a b; do [ $y = b ] && continue 2; echo $x$y; done; echo never; done
#### case
for x in a.c b.h c.txt ''; do case $x in *.c) echo C;; *.h|*.H) echo H;; '') echo empty;; *) echo other;; esac; done
#### case with quoted pattern
case '*' in a) echo a;; '*') echo star;; esac; case abc in "a*") echo no;; a*) echo yes;; esac
#### case without a match
case x in y) echo y;; esac; echo $?
#### case with parentheses
case a in (a) echo one;; (b) echo two;; esac
#### case in a variable
p='[0-9]*'; case 42 in $p) echo number;; esac
#### group
{ echo a; echo b; } | cat; { false; }; echo $?
#### subshell
x=1; (x=2; echo $x); echo $x; (exit 3); echo $?
#### subshell and directory
mkdir d; (cd d; touch f); ls; ls d
#### function
f() { echo "$1 $2 $#"; return 3; }; f a b; echo $?
#### function sees variables
f() { x=2; }; x=1; f; echo $x
#### local
f() { local x=2 y; y=3; echo $x $y; }; x=1; f; echo $x ${y-none}
#### recursion
f() { [ $1 -le 1 ] && { echo 1; return; }; echo $(( $1 * $(f $(($1-1))) )); }; f 6
#### arguments come back
f() { set -- x; echo $1; }; set -- a b; f; echo $1
#### return in a loop
f() { for x in 1 2 3; do [ $x = 2 ] && return 7; done; }; f; echo $? $x
#### function with redirection
f() { echo out; echo err >&2; } 2>/dev/null; f
#### function over program
ls() { echo mine; }; ls; command ls | cat; unset -f ls; type ls >/dev/null && echo there
#### eval
x='echo a; echo b'; eval "$x"; y=x; eval echo \$$y
#### eval status
eval false; echo $?; eval ''; echo $?
#### dot
echo 'x=5; echo in; return 4' > s; . ./s; echo $? $x
#### exit
(exit 5); echo $?; sh -c 'exit 9'; echo $?; exit 3
#### command
command echo a; command -v echo; command -v nosuchthing; echo $?
#### not found
nosuchthing 2>/dev/null; echo $?
#### type
type cd if 2>&1; f() { :; }; type f
#### colon
: ${x:=5}; echo $x; :; echo $?
#### empty commands
x=$(false); echo $?; x=$(echo a); echo $? $x
#### substitution
echo $(echo a; echo b) "$(echo c; echo d)"
#### backquotes
echo `echo a` `echo \`echo b\`` "`echo "c d"`"
#### nested substitution
echo $(echo $(echo $(echo deep)))
#### substitution removes line ends
x=$(printf 'a\n\n\n'); echo "[$x]"
#### quotes in substitution
echo "$(echo "a  b")" $(echo 'c  d')
#### case in substitution
echo $(case a in a) echo yes;; esac)
#### errexit
sh -e -c 'echo a; false; echo b'; echo $?
#### errexit and conditions
sh -e -c 'if false; then :; fi; false || echo a; ! true; false && true; echo end'; echo $?
#### errexit in functions
sh -ec 'f() { false; echo in; }; f; echo out'; echo $?; sh -ec 'f() { false; echo in; }; f || echo or; echo out'; echo $?
#### errexit in subshells
sh -ec '(false; echo no); echo never'; echo $?
#### xtrace
sh -xc 'x=1; echo a "b c" $x' 2>&1
#### noexec
sh -nc 'echo never'; echo $?
#### syntax error
sh -c 'if' 2>/dev/null; echo $?; sh -c 'echo a; )' 2>/dev/null; echo $?
#### dollar minus
set -eu; case $- in *e*u*|*u*e*) echo both;; esac
#### many lines
if true
then
  echo a
fi
for x in 1 \
  2
do
  echo $x
done
case x in
  x)
    echo x
    ;;
esac
#### semicolons everywhere
{ echo a; }; ( echo b ); if true; then echo c; fi; f() { echo d; }; f;
#### pipeline in a condition
if echo abc | grep -q b; then echo found; fi; while echo x | grep -q y; do :; done; echo end
#### trap at exit
trap 'echo bye $?' EXIT; echo hi; exit 3
#### trap in subshell
trap 'echo outer' EXIT; (trap 'echo inner' EXIT; echo sub); echo main
#### trap is not inherited
trap 'echo once' EXIT; (echo sub)
#### trap reset
trap 'echo no' EXIT; trap - EXIT; echo end
#### trap on a signal
trap 'echo got' TERM; kill -TERM $$; echo after
#### trap is ignored
trap '' TERM; kill -TERM $$; echo alive
#### signal ends
sh -c 'kill -TERM $$; echo never'; echo $?
#### trap list
trap 'echo a' INT; trap

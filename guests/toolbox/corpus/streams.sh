#### out
echo a > f; cat f; echo b > f; cat f
#### append
echo a > f; echo b >> f; cat f
#### in
echo a > f; cat < f; wc -l < f
#### order
echo a > f 2>&1; cat f; { echo o; echo e >&2; } > f 2>&1; cat f
#### error to nowhere
ls nosuchfile 2>/dev/null; echo $?
#### error to output
{ echo e >&2; } 2>&1 | cat
#### swap
{ echo o; echo e >&2; } 3>&1 1>&2 2>&3 3>&- | sed 's/^/got /'
#### numbers
exec 3> f; echo a >&3; echo b >&3; exec 3>&-; cat f
#### read from a number
echo l1 > f; echo l2 >> f; exec 4< f; read x <&4; read y <&4; echo $y $x
#### closed
echo a >&- 2>/dev/null; echo $?
#### bad number
(echo a >&7) 2>/dev/null; echo $?
#### missing file
cat < nosuchfile 2>/dev/null; echo $?
#### exec redirects the rest
exec > f; echo a; echo b; exec > /dev/null; cat f > g; exec 1>&2; cat g >&2
#### here document
cat <<EOF
a
 b $((1+1))
EOF
#### here document with variables
x='1  2'; cat <<EOF
<$x> "$x" \$x `echo c` $(echo d)
EOF
#### here document as it stands
cat <<'EOF'
$x `a` \
EOF
#### here document with tabs
if true; then
	cat <<-EOF
	one
		two
	EOF
fi
#### two here documents
cat <<A; cat <<B
a
A
b
B
#### here document in a loop
while read x y; do echo "$y-$x"; done <<EOF
a b
c d e
EOF
#### here document into a pipe
cat <<EOF | sort
b
a
EOF
#### here document in a function
f() { cat <<EOF
in $1
EOF
}; f x; f y
#### here document in a substitution
x=$(cat <<EOF
a
b
EOF
); echo "$x"
#### here document with a continued line
cat <<EOF
a \
b
EOF
#### pipe
echo a b c | wc -w | tr -d ' '
#### long pipe
seq 1 10 | grep -v 5 | sort -rn | head -3 | tail -1
#### pipe status
false | true; echo $?; true | false; echo $?
#### pipe into a loop
printf 'a\nb\n' | while read x; do echo "<$x>"; done
#### a loop into a pipe
for x in c a b; do echo $x; done | sort
#### loops on both sides
for x in 1 2 3; do echo $x; done | while read y; do echo $((y*2)); done
#### variables in a pipe are its own
x=1; echo a | { read x; echo $x; }; echo $x
#### three loops
for x in 1 2; do echo $x; done | while read a; do echo a$a; done | while read b; do echo b$b; done
#### functions in a pipe
f() { while read x; do echo "f$x"; done; }; g() { echo 1; echo 2; }; g | f | f
#### more than a pipe holds
seq 1 20000 | cat | while read x; do y=$x; done; seq 1 20000 | tail -1
#### a reader that leaves
yes | head -2
#### a loop whose reader leaves
while :; do echo y; done | head -1
#### big substitution
x=$(seq 1 20000); echo ${#x}
#### read
echo 'a b  c ' | { read x y; echo "[$x][$y]"; }
#### read one name
echo '  a  b  ' | { read x; echo "[$x]"; }
#### read with backslash
printf 'a\\tb\\\nc\n' | { read x; echo "[$x]"; }; printf 'a\\tb\n' | { read -r x; printf '%s\n' "$x"; }
#### read with separators
echo 'a:b::c' | { IFS=: read x y z; echo "[$x][$y][$z]"; }
#### read at the end
printf 'last' | { read x; echo "$? $x"; read y; echo "$? [$y]"; }
#### read shares its input
printf '1\n2\n3\n' | { read x; cat; echo "x=$x"; }
#### read in a loop from a file
printf 'a 1\nb 2\n' > f; while read k v; do echo $v$k; done < f
#### subshell redirection
(echo a; echo b) > f; cat f; { cat; } < f
#### while with output
i=0; while [ $i -lt 3 ]; do echo $i; i=$((i+1)); done > f; cat f
#### if with output
if true; then echo a; fi > f; cat f
#### background and wait
(echo bg > f) & wait; cat f
#### wait status
sh -c 'exit 7' & wait $!; echo $?
#### two in the background
{ echo a; } > f1 & { echo b; } > f2 & wait; cat f1 f2
#### wait for one of two
(exit 3) & a=$!; (exit 4) & b=$!; wait $b; echo $?; wait $a; echo $?
#### wait for nobody
wait; echo $?
#### kill in the background
sleep 100 & kill $!; wait $! 2>/dev/null; echo $?
#### background function
f() { echo "from $1" > f; }; f x & wait; cat f
#### background sees variables
x='a  b'; y="it's"; { echo "$x $y" > f; } & wait; cat f
#### background list
true && echo a > f & wait; cat f
#### clobber
set -C; echo a > f; (echo b > f) 2>/dev/null; echo $?; echo c >| f; cat f
#### pipefail
(set -o pipefail) 2>/dev/null; echo done
#### stdin of a script
echo 'echo a; x=1
echo b$x' | sh
#### sh with arguments
sh -c 'echo $0 $1 $#' name a b; echo 'echo $1' > s; sh s x
#### script with a first line
printf '#!/bin/sh\necho "$0 $1"\n' > s; chmod +x s 2>/dev/null; ./s a
#### printf
printf '%s-%d-%x|%5s|%-5s|%05d|%%\n' a 42 255 r l 7; printf '%s\n' a b c
#### printf escapes
printf 'a\tb\101\n'; printf '%b' 'x\ny\n'; printf '%c%c\n' abc def
#### printf numbers
printf '%d %d %d %o\n' 0x10 010 -3 8; printf '%.2f %e %g\n' 3.14159 1234.5 0.0001; printf '%.3s|%+d\n' abcdef 5
#### test strings
[ a = a ] && echo 1; [ a != b ] && echo 2; [ -n "" ] || echo 3; [ -z "" ] && echo 4; [ x ] && echo 5; [ "" ] || echo 6
#### test numbers
[ 1 -lt 2 ] && echo 1; [ 10 -gt 9 ] && echo 2; [ 5 -eq 05 ] && echo 3; [ 1 -ne 1 ] || echo 4
#### test files
touch f; mkdir d; echo x > g; [ -f f ] && echo 1; [ -d d ] && echo 2; [ -e no ] || echo 3; [ -s f ] || echo 4; [ -s g ] && echo 5
#### test combined
[ 1 = 1 -a 2 = 2 ] && echo 1; [ 1 = 2 -o 2 = 2 ] && echo 2; [ ! 1 = 2 ] && echo 3; test \( 1 = 1 \) && echo 4
#### test with an error
[ a -eq 1 ] 2>/dev/null; echo $?
#### cd
mkdir -p a/b; cd a/b; touch here; cd ..; ls b; cd - >/dev/null; ls
#### cd fails
cd nosuch 2>/dev/null; echo $?
#### umask
umask 027; umask
#### alias of nothing
x=$(echo 'a "b" $c'); echo "$x"

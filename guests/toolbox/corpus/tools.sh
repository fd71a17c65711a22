#### cat
printf 'a\nb\n' > f; cat f f; cat -n f; echo x | cat - f
#### head and tail
seq 1 20 > f; head -3 f; tail -n 2 f; head -n 1 < f; tail -n +19 f; head -c 4 f; head -n -18 f
#### wc
printf 'a b\nc\n' > f; wc -l < f; wc -w < f; wc -c < f; wc -l f
#### sort
printf 'b\na\nc\na\n' | sort; printf 'b\na\nc\na\n' | sort -u; printf '10\n9\n100\n' | sort -n; printf '1\n2\n' | sort -r
#### sort by key
printf 'x 3\ny 1\nz 2\n' | sort -k2; printf 'a:10\nb:9\n' | sort -t: -k2 -n; printf 'a 1\nb 1\na 0\n' | sort -k1,1 -k2,2n
#### sort sizes and versions
printf '1K\n2M\n10\n' | sort -h; printf 'v1.10\nv1.9\nv1.2\n' | sort -V
#### uniq
printf 'a\na\nb\n' | uniq; printf 'a\na\nb\n' | uniq -d; printf 'a\na\nb\n' | uniq -u; printf 'a\na\nb\n' | uniq -c
#### cut
echo 'a:b:c' | cut -d: -f2; echo 'a:b:c' | cut -d: -f1,3; echo 'a:b:c:d' | cut -d: -f2-; echo hello | cut -c2-4; echo none | cut -d: -f2; echo none | cut -s -d: -f2
#### tr
echo hello | tr a-z A-Z; echo hello | tr -d l; echo aabbcc | tr -s ab; echo 'a b' | tr ' ' '\n'; echo abc123 | tr -cd '[:digit:]'; echo; echo 'x-y' | tr -- - _
#### tee
echo a | tee f; echo b | tee -a f > /dev/null; cat f
#### grep
printf 'one\ntwo\nthree\n' > f; grep o f; grep -v o f; grep -c o f; grep -n t f; grep -i ONE f; grep -q one f; echo $?; grep -q none f; echo $?
#### grep expressions
printf 'a1\nb22\nc\n' > f; grep '[0-9]\+' f; grep -E '[0-9]{2}|c' f; grep '^b' f; grep '2$' f; grep -E '(a|b)[0-9]' f; grep -o '[0-9]*' f
#### grep fixed and words
printf 'a.b\naxb\nword words\n' > f; grep -F a.b f; grep -w word f; grep -x axb f; grep -e axb -e a.b f
#### grep files
echo x > a; echo x > b; mkdir d; echo x > d/c; grep x a b; grep -l x a b; grep -h x a b; grep -r x d; grep -L x a b; echo $?
#### grep context
seq 1 9 | grep -A1 3; seq 1 9 | grep -B1 3; seq 1 9 | grep -C1 5; seq 1 20 | grep -m2 1
#### sed substitutes
echo 'a b a' | sed 's/a/x/'; echo 'a b a' | sed 's/a/x/g'; echo 'a b a' | sed 's/a/x/2'; echo abc | sed 's/b/[&]/'; echo /a/b | sed 's|/|-|g'
#### sed groups
echo 'john smith' | sed 's/\(.*\) \(.*\)/\2 \1/'; echo 'john smith' | sed -E 's/(\w+) (\w+)/\2, \1/'; echo ABC | sed 's/b/x/i'
#### sed addresses
seq 1 5 | sed -n 2p; seq 1 5 | sed 2,4d; seq 1 5 | sed -n '$p'; seq 1 5 | sed -n '/3/,$p'; seq 1 5 | sed '/2/!d'; seq 1 6 | sed -n '0~2p'
#### sed text
printf 'a\nb\n' | sed '1a after'; printf 'a\nb\n' | sed '2i before'; printf 'a\nb\n' | sed '1c changed'; printf 'a\nb\n' | sed '$!d'
#### sed blocks and hold
seq 1 3 | sed -n '1!G;h;$p'; printf 'a\nb\n' | sed '/a/{s/a/x/;p}'; printf '1\n2\n3\n4\n' | sed 'N;s/\n/-/'; echo abc | sed 'y/abc/xyz/'
#### sed in place
printf 'a\nb\n' > f; sed -i 's/a/x/' f; cat f; sed -i.bak 's/b/y/' f; cat f f.bak
#### sed jumps and quits
echo aaa | sed ':x;s/a/b/;tx'; seq 1 9 | sed 3q; seq 1 3 | sed -n '='; printf 'k=v\n' | sed -n 's/^k=//p'
#### awk fields
echo 'a b c' | awk '{print $2}'; echo 'a:b' | awk -F: '{print $2, $1}'; echo 'a b c' | awk '{print NF, $NF}'; printf 'x\ny\n' | awk '{print NR": "$0}'
#### awk patterns
printf 'a 1\nb 20\nc 3\n' | awk '$2 > 2'; printf 'a 1\nb 20\n' | awk '/b/ {print $1}'; printf 'a\nb\nc\nd\n' | awk '/b/,/c/'; seq 1 5 | awk 'NR==2 || NR==4'
#### awk sums
printf '1\n2\n3\n' | awk '{s+=$1} END {print s, s/NR}'; awk 'BEGIN {print 1/4, 2^10, 7%3, int(3.9)}'; awk 'BEGIN {printf "%5.2f|%-5s|%03d\n", 3.14159, "ab", 7}'
#### awk arrays
printf 'a\nb\na\n' | awk '{c[$1]++} END {print c["a"], c["b"]; if ("a" in c) print "in"; delete c["a"]; if (!("a" in c)) print "out"}'
#### awk texts
awk 'BEGIN {s="hello"; print length(s), substr(s,2,3), index(s,"l"), toupper(s); n=split("a,b,c",p,","); print n, p[3]; gsub(/l/,"L",s); print s; print match("foobar",/o+/), RSTART, RLENGTH}'
#### awk control
awk 'BEGIN {for (i=1;i<=3;i++) {if (i==2) continue; print i}; while (j<2) print "w" j++; do {k++} while (k<3); print k}'; awk 'function f(n) {return n<2?1:n*f(n-1)} BEGIN {print f(5)}'
#### awk variables
awk -v x=5 'BEGIN {print x+1}'; echo 'a b' | awk '{$2="x"; print; print $0}'; echo 'a b c' | awk 'BEGIN{OFS="-"} {$1=$1; print}'; echo a | awk '{print ENVIRON["NOPE"] "." $1 "."}'
#### find
mkdir -p a/b; touch a/x.c a/b/y.c a/z.h; find a | sort; find a -name '*.c' | sort; find a -type d | sort; find a -maxdepth 1 -type f | sort; find a -name '*.c' -o -name '*.h' | sort; find a ! -name '*.c' -type f
#### find acts
mkdir a; touch a/1 a/2; find a -type f -exec echo got {} \; | sort; find a -name 1 -delete; ls a
#### xargs
printf 'a b\nc\n' | xargs echo; printf '1\n2\n3\n' | xargs -n1 echo n; printf 'a\nb\n' | xargs -I{} echo '<{}>'; printf 'a\0b c\0' | xargs -0 -n1 echo
#### basename and dirname
basename /a/b/c.txt; basename /a/b/c.txt .txt; dirname /a/b/c.txt; dirname c; basename /a/
#### seq
seq 3; seq 2 4; seq 1 2 7; seq 3 -1 1; seq -s, 1 3; seq 0.5 0.5 1.5; seq -w 8 10
#### expr
expr 1 + 2; expr 6 \* 7; expr 7 / 2; expr abc : 'a\(.*\)'; expr 3 \> 2; expr length hello; expr 0; echo $?
#### date
date -u -d @0 +%Y-%m-%dT%H:%M:%SZ; date -u -d @1700000000 '+%a %b %d %j %H'; date -u -d 2024-02-29 +%s
#### base64
echo hello | base64; echo aGVsbG8K | base64 -d; printf '' | base64; printf 'a longer text that does not fit into one line of the encoded form at all\n' | base64
#### digests
printf abc | sha256sum; printf abc | md5sum; printf abc | sha1sum; echo x > f; sha256sum f > s; sha256sum -c s
#### od
printf 'AB\n' | od -c; printf 'AB\n' | od -An -tx1; printf 'AB' | od -A d -t u1
#### files
mkdir -p d/e; echo a > d/f; cp d/f d/g; cat d/g; mv d/g d/h; ls d; cp -r d c; ls c; rm d/h; rm -r c; ls; rmdir d/e; ls d
#### rm fails
rm nosuch 2>/dev/null; echo $?; rm -f nosuch; echo $?; mkdir d; rm d 2>/dev/null; echo $?; rmdir nosuch 2>/dev/null; echo $?
#### links
echo a > f; ln -s f l; cat l; readlink l; [ -L l ] && echo link; rm l; ls
#### ls
mkdir d; touch d/b d/a d/.c; ls d; ls -a d; ls -1 d; ls -d d; ls -A d; ls nosuch 2>/dev/null; echo $?
#### stat
printf abc > f; stat -c '%s %n' f
#### diff
printf 'a\nb\nc\n' > x; printf 'a\nc\nd\n' > y; diff x y; echo $?; diff x x; echo $?; diff -q x y
#### diff in one format
printf '1\n2\n3\n4\n5\n6\n7\n8\n' > x; printf '1\n2\n3\nfour\n5\n6\n7\n8\n' > y; diff -u x y | tail -n +3
#### cmp
echo a > x; echo a > y; cmp x y; echo $?; echo b > y; cmp -s x y; echo $?
#### tar
mkdir -p d/e; echo 1 > d/f; echo 2 > d/e/g; tar cf t.tar d; tar tf t.tar | sort; mkdir o; tar xf t.tar -C o; cat o/d/f o/d/e/g
#### gzip
echo hello > f; gzip f; ls; zcat f.gz; gunzip f.gz; cat f; tar czf t.tgz f; tar tzf t.tgz; echo x | gzip -c | gzip -d
#### dd
printf abcdef | dd bs=1 count=3 2>/dev/null; echo; dd if=/dev/zero of=f bs=1k count=2 2>/dev/null; wc -c < f; printf abcdef > g; dd if=g bs=2 skip=1 count=1 2>/dev/null
#### timeout
timeout 0.1 sleep 5; echo $?; timeout 5 true; echo $?; timeout 5 sh -c 'exit 3'; echo $?
#### env
env -i A=1 B=2 env | sort; A=1 env | grep '^A='; env -u PATH A=x sh -c 'echo $A'
#### nl, tac, rev, paste
printf 'a\nb\n' | tac; echo abc | rev; printf '1\n2\n3\n' | paste -sd+; printf 'a\nb\n' | nl
#### mktemp
t=$(mktemp -p .); [ -f "$t" ] && echo file; d=$(mktemp -d ./x.XXXXXX); [ -d "$d" ] && echo directory
#### printenv
A=5 printenv A; printenv NOPE; echo $?
#### yes
yes no | head -2
#### which
which nosuchthing; echo $?

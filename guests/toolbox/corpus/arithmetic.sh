#### operators
echo $((1+2*3)) $(((1+2)*3)) $((7/2)) $((7%3)) $((-7/2))
#### comparison
echo $((1<2)) $((2<=1)) $((3==3)) $((3!=3)) $((2>1)) $((2>=3))
#### logic
echo $((1&&0)) $((1||0)) $((!1)) $((!0))
#### bits
echo $((6&3)) $((6|3)) $((6^3)) $((~0)) $((1<<4)) $((256>>2))
#### variables
x=5; echo $((x+1)) $(($x*2)) $((y+1))
#### assignment
echo $((x=5)) $x; echo $((x+=2)) $((x*=3)) $x
#### ternary
x=3; echo $((x>2?10:20)) $((x>5?10:20))
#### bases
echo $((0x1f)) $((010)) $((0xff&0x0f))
#### nesting
echo $((1+$((2+3)))) $(( $(echo 4) * 2 ))
#### negative
x=-5; echo $((x)) $((-x)) $((- -3))
#### spaces and lines
echo $((  1 +
 2 ))
#### count
i=0; while [ $i -lt 5 ]; do i=$((i+1)); done; echo $i
#### division by zero
(echo $((1/0))) 2>/dev/null; echo $?
#### in a word
echo a$((1+1))b "x$((2*2))y"
#### parentheses
echo $(((2+3)*(4-1)))
#### large
echo $((1<<40)) $((9223372036854775807)) $((2147483647+1))
#### short circuit
x=1; echo $((0 && (x=5))) $x $((1 || (x=6))) $x
#### a subshell that looks like it
echo $( (echo a) ) $((1))

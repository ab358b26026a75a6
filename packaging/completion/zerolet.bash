# bash completion for zerolet: the command itself knows what fits, but for files.
_zerolet() {
	mapfile -t COMPREPLY < <(zerolet __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
	[ "$3" != --svg ] || compopt -o default
}
complete -F _zerolet zerolet

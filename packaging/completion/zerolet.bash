# bash completion for zerolet: the command itself knows what fits.
_zerolet() {
	mapfile -t COMPREPLY < <(zerolet __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _zerolet zerolet

# fish completion: the command itself knows what fits, but for files.
complete -c zerolet -f -a '(zerolet __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
complete -c zerolet -n '__fish_prev_arg_in --svg' -F

# fish completion: the command itself knows what fits.
complete -c zerolet -f -a '(zerolet __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'

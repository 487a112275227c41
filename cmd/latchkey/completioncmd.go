package main

const completionHelp = `Completion prints a script with which a shell completes commands, flags and the names
of things on the server: those of the profile, the environment and the server that the
line says so far. The server is asked each time, for two seconds at most.

  bash         latchkey completion bash > /etc/bash_completion.d/latchkey
               for yourself: ~/.local/share/bash-completion/completions/latchkey
               (needs the package bash-completion)
  zsh          latchkey completion zsh > "${fpath[1]}/_latchkey"
               (needs: autoload -U compinit; compinit)
  fish         latchkey completion fish > ~/.config/fish/completions/latchkey.fish
  PowerShell   latchkey completion powershell | Out-String | Invoke-Expression
               (in the file $PROFILE to keep it)

Then start a new shell. For the shell that you are in: source <(latchkey completion bash)`

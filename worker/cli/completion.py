"""`confkeep completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from worker.cli.terminal import Terminal, pass_terminal

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
@pass_terminal
@click.pass_context
def command(ctx: click.Context, terminal: Terminal, shell: str) -> None:
    """Print what a shell needs to complete commands, tenants and devices.

    \b
    Let your shell read it when it starts:
      bash  echo 'eval "$(confkeep completion bash)"' >> ~/.bashrc
      zsh   echo 'eval "$(confkeep completion zsh)"' >> ~/.zshrc
      fish  as in the example

    \b
    Examples:
      confkeep completion bash
      confkeep completion fish > ~/.config/fish/completions/confkeep.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    root = ctx.find_root()
    source = found(root.command, {}, "confkeep", "_CONFKEEP_COMPLETE").source()
    terminal.bytes(source.encode() + b"\n")

"""What bash, zsh and fish need in order to complete our command lines, and where they look for it.

The scripts hand over the line up to the cursor and get one candidate a row: the whole word, a
tab, its meaning. Typer's own scripts break words at bash's `=`, and put a space behind `key=`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from mnistcli.config.allowed_values import check_choice
from mnistcli.output.terminal import PROGRAM, Output

SHELL_VARIABLE = f"_{PROGRAM.upper()}_COMPLETE"
_LINE_VARIABLE = f"_{PROGRAM.upper()}_LINE"
_BREAKS_VARIABLE = f"_{PROGRAM.upper()}_BREAKS"

_BASH = r"""_PROGRAM_complete() {
    local row reply are_paths=1 current=${COMP_LINE:0:COMP_POINT}
    COMPREPLY=()
    while IFS= read -r row; do
        reply=${row%%$'\t'*}
        COMPREPLY+=("$reply")
        [[ -e ${reply/#\~/$HOME} ]] || are_paths=0
    done < <(SHELL_VARIABLE=bash LINE_VARIABLE="$current" BREAKS_VARIABLE="$COMP_WORDBREAKS" \
        "${1/#\~/$HOME}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -gt 0 ]] || return 0
    if ((are_paths)); then
        compopt -o filenames
    elif [[ ${current##*[[:space:]]} != *[\"\']* ]]; then
        for row in "${!COMPREPLY[@]}"; do
            printf -v "COMPREPLY[row]" %q "${COMPREPLY[row]}"
        done
    fi
    [[ ${#COMPREPLY[@]} -gt 1 || ${COMPREPLY[0]} != *[/=.] ]] || compopt -o nospace
}
complete -F _PROGRAM_complete PROGRAM
"""

_ZSH = r"""#compdef PROGRAM
_PROGRAM() {
    local row word
    local -a whole partial
    for row in "${(@f)$(SHELL_VARIABLE=zsh LINE_VARIABLE="${(j: :)words[1,CURRENT-1]} $PREFIX" \
        ${~words[1]} 2>/dev/null)}"; do
        [[ -n $row ]] || continue
        word=${${row%%$'\t'*}//:/\\:}
        if [[ $word == *[/=.] ]]; then
            partial+=("$word:${row#*$'\t'}")
        else
            whole+=("$word:${row#*$'\t'}")
        fi
    done
    _describe -t values value partial -S '' -- whole
}
if [[ $funcstack[1] == _PROGRAM ]]; then
    _PROGRAM "$@"
else
    compdef _PROGRAM PROGRAM
fi
"""

_FISH = r"""function __PROGRAM_complete
    set -l program (string replace -r '^~' $HOME -- (commandline -opc)[1])
    set -l line (commandline -cp | string collect)
    env SHELL_VARIABLE=fish LINE_VARIABLE="$line" $program 2>/dev/null
end
complete -c PROGRAM -f -a '(__PROGRAM_complete)'
"""


@dataclass(frozen=True)
class Shell:
    """One shell that can complete.

    Attributes:
        script: what it has to read.
        base_variable: names the folder that the place below is in.
        base: that folder, below the home, where the variable is not set.
        place: where the script goes.
        advice: what is left for the user to do, once.
    """

    script: str
    base_variable: str
    base: str
    place: str
    advice: str

    def locate(self) -> Path:
        """Return where the script goes, for this user."""
        base = os.environ.get(self.base_variable)
        return Path(base or Path.home() / self.base) / self.place


def _fill_in(script: str) -> str:
    """Say each name once."""
    names = {
        "SHELL_VARIABLE": SHELL_VARIABLE,
        "LINE_VARIABLE": _LINE_VARIABLE,
        "BREAKS_VARIABLE": _BREAKS_VARIABLE,
        "PROGRAM": PROGRAM,
    }
    return re.sub("|".join(names), lambda found: names[found.group()], script)


SHELLS = {
    "bash": Shell(
        _fill_in(_BASH),
        "XDG_DATA_HOME",
        ".local/share",
        f"bash-completion/completions/{PROGRAM}",
        "new shells with bash-completion find it; without, add to ~/.bashrc: source {path}",
    ),
    "zsh": Shell(
        _fill_in(_ZSH),
        "ZDOTDIR",
        "",
        f".zfunc/_{PROGRAM}",
        "add to ~/.zshrc, before compinit runs: fpath=({folder} $fpath)",
    ),
    "fish": Shell(
        _fill_in(_FISH),
        "XDG_CONFIG_HOME",
        ".config",
        f"fish/completions/{PROGRAM}.fish",
        "new shells find it",
    ),
}


def show_completion(name: str | None) -> None:
    """Print a shell's script; UsageError for a shell that has none."""
    if name is None:
        return
    check_choice(name, tuple(SHELLS), "--show-completion")
    Output().print_line(SHELLS[name].script.removesuffix("\n"))
    raise typer.Exit


def install_completion(name: str | None) -> None:
    """Write a shell's script where it belongs, print its path, and say what is left to do.

    Raises:
        UsageError: there is none for this shell.
        OSError: it cannot be written.
    """
    if name is None:
        return
    check_choice(name, tuple(SHELLS), "--install-completion")
    from mnistcli.atomic_files import replace_file

    shell = SHELLS[name]
    path = Path(os.path.realpath(shell.locate()))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, [shell.script.encode()])
    quoted = {"path": shlex.quote(str(path)), "folder": shlex.quote(str(path.parent))}
    Output().print_line(str(path))
    Output().note(shell.advice.format(**quoted))
    raise typer.Exit


def answer_shell(program: Any) -> Iterator[str]:
    """Yield the rows that the shell asks for whose script has set the variables.

    Args:
        program: Typer's command of the whole program.
    """
    from mnistcli.cli.completing import complete_line

    line = os.environ.get(_LINE_VARIABLE, "")
    said = _count_said(line, os.environ.get(_BREAKS_VARIABLE, ""))
    for word, meaning in complete_line(program, line):
        yield f"{word[said:]}\t{meaning}"


def _count_said(line: str, breaks: str) -> int:
    """Count the characters of the last word that the shell takes for words of their own.

    Bash breaks at `=` and `:`, unless they are quoted, and completes what is behind the last one.
    """
    word = re.split(r"\s", line)[-1]
    if "'" in word or '"' in word:
        return 0
    return max((word.rfind(sign) + 1 for sign in "=:" if sign in breaks), default=0)

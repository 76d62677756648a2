"""Shell completion: the scripts of bash, zsh and fish, and the candidates for a command line.

A script passes the line up to the cursor and reads one candidate per row: the complete word, a
tab, its meaning. Typer's own scripts split words at bash's `=`, and add a space after `key=`.
Typer calls the `complete_*` functions, which the declarations of flags and arguments name; what is
heavy is imported only for the word that needs it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from mnistcli.checkpoints import has_checkpoint_name
from mnistcli.config.allowed_values import check_choice
from mnistcli.errors import ResourceError
from mnistcli.output.logs import note
from mnistcli.output.terminal import PROGRAM, print_block, print_line
from mnistcli.user_folders import find_home

SHELL_VARIABLE = f"_{PROGRAM.upper()}_COMPLETE"
_LINE_VARIABLE = f"_{PROGRAM.upper()}_LINE"
_BREAKS_VARIABLE = f"_{PROGRAM.upper()}_BREAKS"
_YAML_SUFFIXES = (".yaml", ".yml")

Completion = tuple[str, str]
"""A word and its meaning, which may be empty."""

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
    """A shell that is supported.

    Attributes:
        script: its completion script.
        base_variable: environment variable of the folder that `place` is in.
        base: that folder in the home folder, where the variable is not set.
        place: path of the script.
        advice: what the user has to do once.
    """

    script: str
    base_variable: str
    base: str
    place: str
    advice: str

    def locate(self) -> Path:
        """Return the path of the script for this user; ResourceError where there is no home."""
        if base := os.environ.get(self.base_variable):
            return Path(base) / self.place
        if (home := find_home()) is None:
            hint = f"name one: HOME=DIR, or {self.base_variable}=DIR"
            raise ResourceError("--install-completion", "this user has no home folder", hint)
        return home / self.base / self.place


def _fill_in(script: str) -> str:
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


def show_completion(name: str) -> None:
    """Print a shell's script; UsageError for a shell that is not supported."""
    check_choice(name, tuple(SHELLS), "--show-completion")
    print_block(SHELLS[name].script.removesuffix("\n"))
    raise typer.Exit


def install_completion(name: str) -> None:
    """Write a shell's script, print its path and what the user has to do.

    Raises:
        UsageError: the shell is not supported.
        OSError: it cannot be written.
    """
    check_choice(name, tuple(SHELLS), "--install-completion")
    from mnistcli.atomic_files import replace_file

    shell = SHELLS[name]
    path = Path(os.path.realpath(shell.locate()))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, [shell.script.encode()])
    quoted = {"path": shlex.quote(str(path)), "folder": shlex.quote(str(path.parent))}
    print_line(str(path))
    note(shell.advice.format(**quoted))
    raise typer.Exit


def complete_for_shell(program: Any) -> Iterator[str]:
    """Yield the rows for the shell whose script has set the variables.

    Args:
        program: Typer's command of the whole program.
    """
    line = os.environ.get(_LINE_VARIABLE, "")
    split_off = _count_split_off(line, os.environ.get(_BREAKS_VARIABLE, ""))
    for word, meaning in complete_line(program, line):
        yield f"{word[split_off:]}\t{meaning}"


def complete_line(program: Any, line: str) -> Iterator[Completion]:
    """Yield the candidates for the last word of a command line, as complete words.

    Args:
        program: Typer's command of the whole program.
        line: as typed, quotes included, up to the cursor.
    """
    typed_words = split_line(line)
    typed = typed_words.pop()
    command, words = _find_command(program, typed_words[1:])
    known = [] if hasattr(command, "commands") else list(words)
    context = command.make_context(PROGRAM, known, resilient_parsing=True)
    prefix, flag = "", words[-1] if words else ""
    if typed.startswith("--") and "=" in typed:
        flag, _, typed = typed.partition("=")
        prefix = f"{flag}="
    asked = _find_option(command, flag) or _choose_parameter(command, context, words, typed)
    for item in asked.shell_complete(context, typed):
        yield prefix + item.value, " ".join((item.help or "").split()).partition(". ")[0]


def split_line(line: str) -> list[str]:
    """Split a line as a shell does; its last word may be empty or lack its closing quote."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        for word in lexer:
            words.append(word)
    except ValueError:
        return [*words, lexer.token]
    return [*words, ""] if not words or line[-1].isspace() else words


def complete_recipe() -> list[Completion]:
    """Offer the recipes' names."""
    from mnistcli.config.recipes import list_recipes

    return [(recipe.name, recipe.about) for recipe in list_recipes()]


def complete_config(incomplete: str) -> list[Completion]:
    """Offer the recipes' names and YAML files."""
    return [*complete_recipe(), *complete_yaml(incomplete)]


def complete_yaml(incomplete: str) -> list[Completion]:
    """Offer YAML files."""
    return _list_paths(incomplete, has_yaml_name)


def complete_checkpoint(incomplete: str) -> list[Completion]:
    """Offer checkpoints."""
    return _list_paths(incomplete, has_checkpoint_name)


def complete_source(incomplete: str) -> list[Completion]:
    """Offer checkpoints, recipes and YAML files."""
    files = _list_paths(incomplete, lambda name: has_checkpoint_name(name) or has_yaml_name(name))
    return [*complete_recipe(), *files]


def complete_reproducible(incomplete: str) -> list[Completion]:
    """Offer checkpoints and recipes."""
    return [*complete_recipe(), *complete_checkpoint(incomplete)]


def complete_image(incomplete: str) -> list[Completion]:
    """Offer images, of the kinds that can be read, and arrays of them."""
    from mnistcli.images.decoding import IMAGE_NAME

    return _list_paths(
        incomplete, lambda name: IMAGE_NAME.search(name) or name.lower().endswith(".npy")
    )


def complete_directory(incomplete: str) -> list[Completion]:
    """Offer folders."""
    return _list_paths(incomplete, lambda _: False)


def complete_data(incomplete: str) -> list[Completion]:
    """Offer folders and archives of arrays."""
    return _list_paths(incomplete, lambda name: name.lower().endswith(".npz"))


def complete_column() -> list[str]:
    """Offer the columns that every table of `ls` has."""
    from mnistcli.output.run_list import FIXED

    return list(FIXED)


def complete_threshold() -> list[str]:
    """Offer the metrics of `--fail-under`."""
    from mnistcli.commands.evaluate import HIGHEST_THRESHOLDS

    return [f"{metric}=" for metric in HIGHEST_THRESHOLDS]


def complete_assignment(incomplete: str) -> list[Completion]:
    """Offer a config's dotted keys, and after `=` the words that a key accepts."""
    from mnistcli.config.field_info import iter_key_completions

    return [(one.text, one.help) for one in iter_key_completions(incomplete)]


def has_yaml_name(path: str) -> bool:
    """Return whether a path ends in .yaml or .yml; configs with other names are not offered."""
    return Path(path).suffix.lower() in _YAML_SUFFIXES


def _count_split_off(line: str, breaks: str) -> int:
    """Return the length of the part of the last word that the shell has split off.

    Bash splits at `=` and `:`, unless they are quoted, and completes the part after the last one.
    """
    word = re.split(r"\s", line)[-1]
    if "'" in word or '"' in word:
        return 0
    return max((word.rfind(sign) + 1 for sign in "=:" if sign in breaks), default=0)


def _find_command(program: Any, words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the words name, and the words after it."""
    commands = getattr(program, "commands", {})
    for number, word in enumerate(words):
        if word in commands:
            return _find_command(commands[word], words[number + 1 :])
    return program, words


def _find_option(command: Any, flag: str) -> Any:
    """Return the option that takes the word after a flag; None for switches."""
    return next(
        (
            parameter
            for parameter in command.params
            if flag in parameter.opts
            and parameter.param_type_name == "option"
            and not parameter.is_flag
        ),
        None,
    )


def _choose_parameter(command: Any, context: Any, words: list[str], typed: str) -> Any:
    # A dash asks for flags; other words go to the first argument without a value.
    if typed.startswith("-") and "--" not in words:
        return command
    for parameter in command.params:
        if parameter.param_type_name == "argument" and (
            parameter.nargs == -1 or not context.params.get(parameter.name)
        ):
            return parameter
    return command


def _list_paths(typed: str, fits: Callable[[str], object]) -> list[Completion]:
    """Return folders, and files with fitting names, that begin with the typed path."""
    beginning, slash, name = typed.rpartition("/")
    folder = beginning + slash
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:  # noqa: PTH111
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError:  # nothing is there to offer
        return []
    return [
        (f"{folder}{entry}/" if is_directory else f"{folder}{entry}", "")
        for entry, is_directory in found
        if (is_directory or fits(entry))
        and entry.startswith(name)
        and (name or not entry.startswith("."))
        and entry.isprintable()
    ]

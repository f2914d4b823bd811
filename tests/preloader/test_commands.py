"""A wrapped command behaves as it does under plain `sh -c`: byte for byte, and with the same exit code."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ezbatch import preloader
from ezbatch.s3 import S3Mount
from tests.preloader.conftest import SHELLS, Bench, Ended, exit_code, plain_environment

SH = "/bin/sh"
# ruff: noqa: Q003 - shell quoting is the subject here
COMMANDS = {
    "newlines": "echo one\necho two\n\n\necho three\n",
    "no trailing newline": "echo one\necho two",
    "only newlines": "\n\n\n",
    "a comment first": "# what this does\necho ran",
    "a comment only": "# nothing to do",
    "a comment last": "echo ran # and that is all",
    "a shebang first": "#!/usr/bin/env python3\necho ran",
    "a hash in a word": "echo a#b '#' \"#\" \\# ${#HOME}",
    "heredoc": "cat <<EOF\n$HOME is home\n  'indented' \"quoted\" \\$5\nEOF",
    "quoted heredoc": "cat <<'EOF'\n$HOME `id` \\n 'x' \"y\"\nEOF",
    "heredoc with tabs": "cat <<-EOF\n\ttabs go\n\t\tall\n\tEOF\n",
    "two heredocs": "cat <<A; cat <<B\na\nA\nb\nB\n",
    "unfinished heredoc": "cat <<EOF\nno end",
    "repeated spaces": "echo  'a   b'   c    \"d     e\"",
    "single quotes": "echo 'it'\\''s' '\"'",
    "double quotes": 'echo "a \\"b\\" c" "it\'s"',
    "only quotes": "echo '' \"\" '\"' \"'\" | od -c",
    "awk": "awk '{print $1 * 2}' 1.num 2.num",
    "awk with a regular expression": "awk -F, '/^[^#]/ && $2 ~ /a|b/ {printf \"%s\\n\", $2}' table.csv",
    "sed": "sed -e 's/\\(.\\),/[\\1]&/g;s|/|\\\\|' table.csv",
    "exit 0": "exit 0; echo no",
    "exit 3": "echo before; exit 3",
    "exit 255": "exit 255",
    "exit with our own codes": "exit 190",
    "exit 126": "exit 126",
    "false": "false",
    "false before true": "false; true",
    "exec": "exec echo replaced",
    "exec with redirection": "exec 3>&1 >&2; echo err; echo out >&3",
    "exec of something missing": "exec /no/such/program",
    "missing program": "no-such-program-anywhere",
    "missing program and on": "no-such-program-anywhere; echo $?",
    "a directory as program": "/",
    "set -e": "set -e\necho a\nfalse\necho b",
    "set -eu": "set -eu; echo ${UNSET_VARIABLE}; echo no",
    "set -x": "set -x; echo 'a b'",
    "set -f": "set -f; echo *",
    "set -n": "set -n; echo never",
    "pipeline": "printf 'b\\na\\n' | sort | head -1",
    "pipeline that fails first": "false | cat; echo $?",
    "broken pipe": "yes | head -2",
    "background": "sleep 0 & wait; echo done",
    "background output": "(echo one) & echo two >&2; wait",
    "background left behind": "(echo late) & exit 4",
    "background with a code": "(exit 7) & wait $!; echo $?",
    "subshell": "(cd /; pwd); pwd | wc -l",
    "command substitution": 'echo "$(echo "$(echo \'a b\')")" `echo c`',
    "arithmetic": "echo $((2 * 3)) $((010))",
    "glob": "echo *.num; echo '*.num' \"*\" [12].num ?.csv",
    "glob with odd names": "for f in *; do printf '<%s>' \"$f\"; done",
    "tilde": "echo ~",
    "variables": "A='x  y'; echo $A \"$A\" ${A%y} ${B:-none}",
    "positional": 'set -- "a b" c; echo $# "$1" "$@"',
    "zero": "echo $0 $#",
    "function": "f() { echo \"in $1\"; return 5; }; f x; echo $?",
    "case": "case abc in a*) echo yes;; *) echo no;; esac",
    "while read": "printf 'a b\\n c \\n' | while IFS= read -r l; do echo \"<$l>\"; done",
    "stdin is empty": "cat; read x; echo \"$? <$x>\"",
    "stdin is not ours": "readlink /proc/self/fd/0",
    "no other files open": "ls /proc/self/fd | wc -l",
    "trap EXIT": "trap 'echo bye' EXIT; echo hi; exit 6",
    "trap TERM": "trap 'echo got TERM' TERM; kill -TERM $$; echo on",
    "trap INT": "trap 'echo got INT' INT; kill -INT $$; echo on",
    "trap HUP": "trap 'echo got HUP' HUP; kill -HUP $$; echo on",
    "killed by TERM": "echo a; kill -TERM $$; echo b",
    "killed by KILL": "echo a; kill -KILL $$; echo b",
    "killed by INT": "echo a; kill -INT $$; echo b",
    "killed by QUIT": "ulimit -c 0; kill -QUIT $$; echo b",
    "killed by SEGV": "ulimit -c 0; kill -SEGV $$; echo b",
    "killed by PIPE": "kill -PIPE $$; echo b",
    "ignored signals": "grep -E '^Sig(Ign|Blk)' /proc/self/status",
    "syntax error": "if true; then echo a",
    "unterminated quote": "echo 'abc",
    "carriage returns": "echo one\r\necho two\r\n",
    "tabs and other whitespace": "echo\t'a\tb\x0bc\x0cd'",
    "control characters": "printf '%s' '\x01\x02\x1b[0m\x7f' | od -c",
    "unicode": "echo 'μ 中文 🧬 é'; printf '%s' '\N{NO-BREAK SPACE}' | od -c",
    "backslashes": "echo 'a\\nb' \"c\\\\d\" e\\ f; printf '%s\\n' 'a\\'",
    "backslash at the end": "echo a\\",
    "line continuation": "echo a \\\n  b",
    "dollars": "echo '$HOME' \\$HOME \"\\$HOME\" $$HOMEx | sed 's/[0-9]//g'",
    "percent and braces": "printf '%%s %s {} {a,b}\\n' x",
    "exclamation": "echo 'wow!' \"a!b\"; ! true; echo $?",
    "semicolons and ampersands": "echo a; echo 'b;c' && echo 'd&e' || echo f",
    "redirections": "echo out; echo err >&2; echo gone >/dev/null",
    "umask and cwd": "umask; umask 077; umask; pwd | grep -c ezbatch-preloader",
    "python with quotes": f"{sys.executable} -c 'import sys; print(sys.argv, \"a\\tb\")' 'x y' '' '*'",
    "python heredoc": f"{sys.executable} - <<'EOF'\nfor i in range(2):\n    print(f\"{{i}} 'q'\")\nEOF",
    "nested shells": "sh -c 'sh -c \"echo \\\"\\$0\\\"\" inner'",
    "eval": "x='echo \"a  b\"'; eval \"$x\"",
    "options of ours": "set -- get put; for ez in \"$@\"; do echo $ez; done; type ez_copy",
    "a leading dash": "-n",
    "an equals sign": "A=1 B='2 3' sh -c 'echo $A $B'",
    "carriage returns in a compound command": "x=1\r\nif [ \"$x\" = 1 ]; then\r\necho yes\r\nfi\r\n",
    "carriage returns in a heredoc": "cat <<EOF\r\na\r\nEOF\r\necho after\r\n",
    "a line of 20 KiB": "echo " + "'a b' " * 3_500,
    "a heredoc of 20 KiB": "cat <<'EOF' | cksum\n" + "$x `y` 'q' \"d\"\n" * 1_300 + "EOF\n",
    "exit in a trap": "trap 'echo t; exit 9' EXIT; exit 3",
    "a trap in a subshell": "(trap 'echo sub' EXIT); trap 'echo main' EXIT",
    "traps listed": "trap; trap 'echo hup' HUP; trap",
    "a signal ignored": "trap '' TERM; kill -TERM $$; echo on; sh -c 'kill -TERM $$; echo child too'",
    "a signal to the whole group": "trap '' TERM; kill -TERM 0; echo here",
    "trap ALRM": "trap 'echo got ALRM' ALRM; kill -ALRM $$; echo on",
    "killed by USR1": "kill -USR1 $$; echo no",
    "stopped and continued": "(sleep 0.1; kill -CONT $$) & kill -STOP $$; echo resumed",
    "background holding stdout": "(sleep 0.2; echo late) & echo now",
    "background of a background": "(sh -c 'sleep 0.1; echo orphan' &); echo parent",
    "a session of its own": "setsid sh -c 'echo s'; echo $?",
    "our functions": "ez_say() { echo mine; }; ez_say; s3_get() { return 3; }; s3_get; echo $?",
    "our variables": "export ez_code=99 ez_phase=x ez_child=1 ez_err=7 why=no stage=/; exit 4",
    "our variables unset": "set -u; echo \"${ez_text-unset} ${EZBATCH_COMMAND-unset}\"; set | grep -c ez_",
    "aliases": "alias echo='printf alias' exit=:\necho hi\nexit 3\nexit 4",
    "stdout closed": "exec >&-; echo x; echo $? >&2",
    "stderr closed": "exec 2>&-; echo x; no-such-program; echo $?",
    "everything closed": "exec 0<&- 1>&- 2>&-; exit 8",
    "file descriptors of its own": "exec 3>&2 9>/dev/null; echo a >&9; echo b >&3; ls /proc/$$/fd",
    "umask": "umask 777; : >made; stat -c %a made; rm -f made",
    "ulimit": "ulimit -n 16; ulimit -f 0; ulimit -a",
    "a directory that goes": "mkdir gone; cd gone; rmdir ../gone; ls; pwd >/dev/null; exit 3",
    "binary output": "head -c 300 /dev/zero | tr '\\0' '\\377'; printf '\\001\\200\\376\\0end'",
    "much on both": "yes out | head -c 200000; yes err | head -c 200000 >&2",
    "no newline at the end of stderr": "printf 'no newline' >&2; exit 3",
    "not a terminal": f"{sys.executable} -c 'import os; print([os.isatty(fd) for fd in range(3)])'",
    "IFS": "printf '%s' \"$IFS\" | od -c; IFS=,; x=a,b; echo $x",
    "flags of the shell": "echo $-; set -o | grep -E 'errexit|nounset|noglob|monitor'",
    "exit 1000": "exit 1000",
    "exit without a number": "exit abc",
    "return at the top": "return 5; echo after",
    "a missing file sourced": ". ./no-such-file; echo after",
    "half a brace": "{ echo a",
    "no command at all": ";",
    "an empty script": "",
    "many words": "set -- $(seq 1 20000); echo $#",
    "a byte order mark": "\ufeffecho hi",
    "a script of 20 KiB": "\n".join(f"x{n}='it'\\''s {n:04}'" for n in range(900)) + "\necho $x0 $x899",
}  # fmt: skip


def prepare(bench: Bench) -> None:
    bench.file("1.num", b"4\n")
    bench.file("2.num", b"5 6\n")
    bench.file("table.csv", b"#,b\n1,a\n2,b/\n3,c\n")
    bench.file("a 'b' \"c\" * $d\n;", b"")


@functools.cache
def reference(command: str, cwd: str) -> Ended:
    done = subprocess.run(
        [SH, "-c", command],
        env={name: value for name, value in plain_environment().items() if value is not None},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        # Some of them signal their whole process group.
        start_new_session=True,
    )
    return Ended(exit_code(done.returncode), done.stdout, done.stderr)


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_to_copy(bench: Bench, name: str) -> None:
    prepare(bench)
    assert bench.run([SH, "-c", COMMANDS[name]]) == reference(COMMANDS[name], str(bench.work))


@pytest.mark.parametrize("name", COMMANDS)
def test_inputs_and_outputs_to_copy(bench: Bench, name: str) -> None:
    prepare(bench)
    expected = reference(COMMANDS[name], str(bench.work))
    bench.put("bucket/in", b"new")
    read = [S3Mount("s3://bucket/in", "../in")]
    write = [S3Mount("../in", "s3://bucket/out"), S3Mount(".", "s3://bucket/all/")]
    ended = bench.run([SH, "-c", COMMANDS[name]], read, write)
    while b"its exit code is lost" in ended.err:
        # Only bash loses one, when a signal comes just as a process ends (see ez_lost): told, and no success.
        assert (bench.shell[0], ended.code) == ("bash", 143)
        ended = bench.run([SH, "-c", COMMANDS[name]], read, write)
    assert ended == expected
    assert bench.objects()["bucket/out"] == b"new"
    assert {key.removeprefix("bucket/all/") for key in bench.objects() if "/all/" in key} == set(bench.files())


def printing(*words: str) -> list[str]:
    return ["/usr/bin/printf", "%s\\0", *words]


word = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.text(st.sampled_from(list(" \t\n\r'\"\\$`*?[]{}()<>|&;#~!=-%@\x01\x7f\x81\x88éμ🧬"))),
    st.binary().map(lambda raw: os.fsdecode(raw.replace(b"\0", b""))),
)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("copies", [False, True])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(word, min_size=1, max_size=8))
@example(words=["a", "", "b c", "", "-n", "--", "'", '"', "\n", "\n\n", "$(id)", "`id`", "*", "\\", "\x01\x7f", "="])
@example(words=["'" * 200, "\x81\x82\udc81\udc88", "EOF\n", "~", "!!"])
def test_any_argv_arrives_byte_for_byte(dash: Bench, shell: str, copies: bool, words: list[str]) -> None:
    bench = Bench(SHELLS[shell], dash.top)
    bench.file("out")
    ended = bench.run(printing(*words), write=[S3Mount("out", "s3://bucket/out")] if copies else [])
    assert ended == Ended(0, b"".join(os.fsencode(each) + b"\0" for each in words), b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="it becomes another user")
def test_bash_says_nothing_about_a_command_that_was_killed_before_it_waited(dash: Bench) -> None:
    bench = Bench(SHELLS["bash"], dash.top)
    bench.file("out")
    # Each step of the script takes its time while the command lives. From root, bash would take no PS4.
    slow = {"SHELLOPTS": "xtrace", "PS4": "$(kill -0 $! 2>/dev/null && sleep 0.2)+ "}
    write = [S3Mount("out", "s3://bucket/out")]
    ended = bench.run([SH, "-c", "kill -KILL $$"], [], write, env=slow, nobody=True)
    assert ended.code == 137
    assert b"Killed" not in ended.err


@pytest.mark.parametrize("copies", [False, True])
def test_a_command_without_a_shell(bench: Bench, copies: bool) -> None:
    bench.file("out")
    write = [S3Mount("out", "s3://bucket/out")] if copies else []
    assert bench.run(["echo", "$HOME", "a  b", "# c", "*"], write=write) == Ended(0, b"$HOME a  b # c *\n", b"")
    assert bench.run(["/no/such/program"], write=write).code == 127
    assert bench.run(["no-such-program"], write=write).code == 127
    assert bench.run(["/"], write=write).code == 126
    odd = bench.file("a=b", b"#!/bin/sh\necho odd\n")
    odd.chmod(0o755)
    assert bench.run(["./a=b"], write=write) == Ended(0, b"odd\n", b"")


@pytest.mark.parametrize("copies", [False, True])
def test_the_environment_of_the_command_is_the_job_s_own(bench: Bench, copies: bool) -> None:
    bench.file("out")
    # Names that the script or a shell might use for itself.
    own = {name: f"user's {name}\n" for name in ("why", "path", "here", "count", "from", "n", "code", "IFSX", "LC_ALL")}
    batch = {"AWS_BATCH_JOB_ID": "id", "AWS_BATCH_JOB_ARRAY_INDEX": "0", "ARRAY": "yes"}
    ended = bench.run(
        ["env", "-0"],
        [],
        [S3Mount("out", "s3://bucket/out")] if copies else [],
        [[{"ARRAY": "yes"}]],
        env={**own, "AWS_BATCH_JOB_ID": "id", "AWS_BATCH_JOB_ARRAY_INDEX": "0"},
    )
    seen = dict(item.split("=", 1) for item in ended.out.decode().split("\0") if item)
    # Every shell adds some of these, with the preloader or without.
    added = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert {name: value for name, value in seen.items() if name not in added} == plain_environment() | own | batch
    assert ended.code == 0


def test_no_tool_is_needed_when_there_is_nothing_to_copy(bench: Bench) -> None:
    wrapped = preloader.wrap([sys.executable, "-c", "print(1)"], axes=[[{"A": "1"}, {"A": "2"}]])
    shell = subprocess.run(["which", bench.shell[0]], capture_output=True, text=True, check=True).stdout.strip()
    done = subprocess.run(
        [shell, *bench.shell[1:], *wrapped.command[1:]],
        env={**wrapped.environment, "PATH": "/nonexistent", "AWS_BATCH_JOB_ARRAY_INDEX": "1"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"1\n", b"")


@pytest.mark.parametrize("mounts", ["none", "read"])
def test_with_nothing_to_do_afterwards_the_command_is_the_process_itself(bench: Bench, mounts: str) -> None:
    bench.put("bucket/in")
    read = [S3Mount("s3://bucket/in", "in")] if mounts == "read" else []
    process = bench.start([SH, "-c", "echo $$"], read)
    out, _ = process.communicate(timeout=60)
    assert int(out) == process.pid

#!/bin/sh
# shellcheck shell=sh disable=SC2034,SC2154,SC2317,SC2329
# SC2034, SC2154: ez_root is read, and `why` and ez_why are set, by the stores, which are files of their own.
# SC2317, SC2329: shellcheck does not follow eval, by which the functions are called.
#
# What runs inside the container: copy the job's inputs, run its command, copy its outputs.
#
# ezbatch.preloader strips comments and indentation, puts the stores (store_*.sh) before this file and passes all of it
# to `/bin/sh -c`. Written for dash, busybox sh and bash, without root and without a file of its own anywhere. What
# differs between jobs comes in variables:
#
#   EZBATCH_COMMAND  the command, as quoted words
#   EZBATCH_READ     six quoted words a mount: source, destination, auto|yes|no (recursive), sse, KMS key, options
#   EZBATCH_WRITE    the same for the outputs
#   EZBATCH_ARRAY    the axes of an array, the last one first; see ez_axes
#   EZBATCH_S3       which store holds s3://: directory:/root, or nothing for S3 itself
#
# A value too long for one variable goes on in NAME_1, NAME_2, ... (Linux allows 128 KiB a string).
#
# About eval: each of these texts was made by Python's shlex.quote, so every word is either plain characters or in
# single quotes and `eval "set -- $text"` can only split it into words. Nothing else is ever given to eval but names and
# numbers made here.
#
# Names begin with ez_ because an assignment to a name that the job's environment happens to use would change what the
# command sees. In the workers, which are processes of their own, plain names do no harm.

ez_nl='
'
ez_pids='' ez_child='' ez_timer='' ez_caught='' ez_term='' ez_seen='' ez_phase='' ez_code=0 ez_err=2

# ez_say TEXT: one line on stderr, whatever TEXT holds, because the last line is what people and `explain` read.
ez_say() {
	ez_text=$1
	while :; do
		case $ez_text in
		*"$ez_nl"*) ez_text="${ez_text%%"$ez_nl"*} ${ez_text#*"$ez_nl"}" ;;
		*) break ;;
		esac
	done
	printf 'ezbatch: %s\n' "$ez_text" >&"$ez_err"
}

# ez_quit CODE TEXT
ez_quit() {
	trap - EXIT
	ez_say "$2"
	exit "$1"
}

# ez_join NAME: the value of NAME, NAME_1, NAME_2, ... goes to ez_text; the command must not see them, so they go away.
ez_join() {
	eval "ez_text=\${${1}-}"
	unset "$1"
	ez_n=1
	while eval "[ -n \"\${${1}_$ez_n-}\" ]"; do
		eval "ez_text=\$ez_text\${${1}_$ez_n}"
		unset "${1}_$ez_n"
		ez_n=$((ez_n + 1))
	done
}

# ez_mounts WORD...: are these mounts?
ez_mounts() {
	while [ "$#" -ge 6 ]; do
		case $3 in auto | yes | no) ;; *) return 1 ;; esac
		[ -n "$1" ] && [ -n "$2" ] || return 1
		shift 6
	done
	[ "$#" -eq 0 ]
}

# ez_number TEXT: digits, and not the octal kind.
ez_number() {
	case $1 in '' | *[!0-9]* | 0?*) return 1 ;; esac
}

# ez_assign NAME=VALUE...: unset first, so that names which bash computes (SECONDS, RANDOM) hold what they are given.
ez_assign() {
	for ez_word; do
		unset "${ez_word%%=*}"
		export "${ez_word?}"
	done
}

# ez_axes WORD...: export this child's row of every axis. An axis is ROWS COLUMNS NAME... VALUE...; with COLUMNS 0 the
# rows differ in their names, and each is one word that holds quoted NAME=VALUE words. Axes come last one first, so the
# remainder of the index picks a row and the quotient goes on to the axis before it.
ez_axes() {
	ez_index=${AWS_BATCH_JOB_ARRAY_INDEX-0}
	ez_number "$ez_index" || return 1
	while [ "$#" -ge 2 ]; do
		ez_rows=$1 ez_columns=$2
		ez_number "$ez_rows" && ez_number "$ez_columns" && [ "$ez_rows" -gt 0 ] || return 1
		shift 2
		ez_row=$((ez_index % ez_rows)) ez_index=$((ez_index / ez_rows))
		# A job that is not an array has no index: that is row 0 of the only row, and a mistake otherwise.
		[ "$ez_rows" -eq 1 ] || [ -n "${AWS_BATCH_JOB_ARRAY_INDEX-}" ] || return 1
		if [ "$ez_columns" -eq 0 ]; then
			[ "$#" -ge "$ez_rows" ] || return 1
			eval "eval \"ez_assign \${$((ez_row + 1))}\"" || return 1
			shift "$ez_rows"
		else
			ez_words=$((ez_columns * (ez_rows + 1))) ez_n=1
			[ "$#" -ge "$ez_words" ] || return 1
			while [ "$ez_n" -le "$ez_columns" ]; do
				eval "ez_assign \"\${$ez_n}=\${$((ez_columns * (ez_row + 1) + ez_n))}\""
				ez_n=$((ez_n + 1))
			done
			shift "$ez_words"
		fi
	done
	[ "$#" -eq 0 ] && [ "$ez_index" -eq 0 ]
}

# ez_stop SIGNAL PID...: end processes and all below them. The kernel's list of children is read because a worker that
# waits for `cp` cannot pass a signal on, and the process group may belong to others.
ez_stop() {
	ez_with=$1
	shift
	for ez_p; do
		ez_kids=
		{ read -r ez_kids <"/proc/$ez_p/task/$ez_p/children"; } 2>/dev/null
		kill -s "$ez_with" "$ez_p" 2>/dev/null
		# shellcheck disable=SC2086 # a list of numbers
		ez_stop "$ez_with" $ez_kids
	done
}

# ez_worker get|put MOUNT: one mount, tried four times, in a process of its own. Its only word on stderr is its failure.
ez_worker() {
	# For messages in one language and names that are just bytes.
	LC_ALL=C
	export LC_ALL
	pause=1
	while :; do
		why=
		"${ez_store}_$1" "$2" "$3" "$4" "$5" "$6" "$7" && return 0
		if [ "$?" -ne 1 ] || [ "$pause" -gt 4 ]; then break; fi
		sleep "$pause" 2>/dev/null
		pause=$((pause * 2))
	done
	[ -n "$why" ] || why='the copy failed without a message'
	if [ "$1" = get ]; then
		ez_say "download failed: $2: $why; the command was not run"
	else
		ez_say "upload failed: $2 to $3: $why; the command itself ended with exit code $ez_code"
	fi
	return 1
}

# ez_copy get|put MOUNT...: all at once; fails if any does.
ez_copy() {
	ez_do=$1
	shift
	ez_pids=
	while [ "$#" -gt 0 ]; do
		(ez_worker "$ez_do" "$1" "$2" "$3" "$4" "$5" "$6") &
		ez_pids="$ez_pids $!"
		shift 6
	done
	ez_failed=0
	for ez_pid in $ez_pids; do
		ez_wait "$ez_pid" || ez_failed=1
	done
	ez_pids=
	return "$ez_failed"
}

# ez_wait PID: its exit code, however often a signal interrupts the wait. A second wait for a process that the first
# one had already collected answers 127: then the first answer was the true one. stderr is closed to the shell's own
# remarks ("Killed").
ez_wait() {
	ez_status=
	while :; do
		[ -z "$ez_term" ] || ez_arm
		if ez_lost "$1"; then return "$ez_seen"; fi
		ez_caught=
		wait "$1" 2>/dev/null
		ez_again=$?
		[ "$ez_again" = 127 ] && [ -n "$ez_status" ] || ez_status=$ez_again
		if [ -z "$ez_caught" ] || [ "$ez_again" = 127 ]; then return "$ez_status"; fi
	done
}

# ez_lost PID: bash leaves wait by longjmp from its signal handler, and when that comes just after waitpid has collected
# a process, whichever it was, nobody has its exit code: gone for the kernel, running for bash, which would wait for it
# for ever. The 128 + n of the signal stands for it, which cannot be taken for success.
ez_lost() {
	[ -n "${BASH_VERSION-}" ] && [ -n "$ez_seen" ] && ! kill -0 "$1" 2>/dev/null || return
	# shellcheck disable=SC3045 # only bash comes here
	case $ez_nl$(jobs -rp)$ez_nl in
	*"$ez_nl$1$ez_nl"*) ez_say "a signal came just as process $1 ended: its exit code is lost, $ez_seen stands for it" ;;
	*) return 1 ;;
	esac
}

# ez_arm: SIGKILL follows SIGTERM after 30 s by default. End the uploads just before, to be able to say so. Not done in
# the trap itself, which can run between a fork and the look at $! that follows it.
ez_arm() {
	ez_term=
	[ -z "$ez_timer" ] || return 0
	(
		sleep 25
		kill -s ALRM "$$"
	) >/dev/null 2>&1 &
	ez_timer=$!
}

# ez_signal NAME NUMBER: what a signal means depends on how far the job is.
ez_signal() {
	ez_caught=$1 ez_seen=$((128 + $2))
	case $ez_phase in
	get)
		# shellcheck disable=SC2086 # a list of numbers
		ez_stop TERM $ez_pids
		wait 2>/dev/null
		ez_quit "$ez_seen" "stopped by SIG$1; the command was not run"
		;;
	run) kill -s "$1" "$ez_child" 2>/dev/null ;;
	put) ez_term=1 ;;
	esac
	[ "$1" != TERM ] || ez_term=1
}

# ez_late: the time that SIGTERM left is over.
ez_late() {
	ez_caught=ALRM ez_seen=142
	[ "$ez_phase" = put ] || return 0
	# shellcheck disable=SC2086 # a list of numbers
	ez_stop TERM $ez_pids
	ez_say "upload failed: stopped by a signal before it was complete; the command itself ended with exit code $ez_code"
}

# ez_run COMMAND...: become the command. POSIX lets the shell ignore INT and QUIT in background processes, which the
# command would inherit, so they are put back: bash can do that itself, elsewhere GNU env can. busybox has neither.
ez_run() {
	trap - INT QUIT
	case ${BASH_VERSION:+-}$1 in
	-* | *=*) ;;
	*) ! /usr/bin/env --default-signal=INT,QUIT true 2>/dev/null || exec /usr/bin/env --default-signal=INT,QUIT "$@" ;;
	esac
	exec "$@"
}

trap 'ez_signal HUP 1' HUP
trap 'ez_signal INT 2' INT
trap 'ez_signal TERM 15' TERM
trap ez_late ALRM
ez_phase='get'

# A syntax error in eval ends dash and busybox sh on the spot; the trap turns that into our own code.
trap 'ez_quit 193 "malformed EZBATCH_* variables or array index; the command was not run"' EXIT
ez_join EZBATCH_ARRAY
[ -z "$ez_text" ] || eval "ez_axes $ez_text" || exit
ez_join EZBATCH_READ
ez_read=$ez_text
eval "ez_mounts $ez_read" || exit
ez_join EZBATCH_WRITE
ez_write=$ez_text
eval "ez_mounts $ez_write" || exit
ez_join EZBATCH_COMMAND
eval "set -- $ez_text" || exit
[ "$#" -gt 0 ] || exit
if [ -n "$ez_read$ez_write" ]; then
	case ${EZBATCH_S3-} in
	directory:/*)
		ez_store=dir
		ez_root=${EZBATCH_S3#directory:}
		;;
	'') ez_store=s3 ;;
	*) exit ;;
	esac
fi
unset EZBATCH_S3
trap - EXIT

[ -n "$ez_read$ez_write" ] || exec "$@" </dev/null

command -v "${ez_store}_ready" >/dev/null ||
	ez_quit 193 "this script cannot copy with EZBATCH_S3=${ez_root:+directory}; the command was not run"
"${ez_store}_ready" || ez_quit 192 "no client: $ez_why; the command was not run"

eval "ez_copy get $ez_read" || exit 190
[ -n "$ez_write" ] || exec "$@" </dev/null

ez_phase='start'
# When a command is killed, bash says so ("Killed") wherever it notices, which may be before the wait.
{
	ez_err=3
	(ez_run "$@") </dev/null 2>&3 3>&- &
	ez_child=$!
	ez_phase='run'
	# A signal that came between the fork and the line above has been noted but not passed on.
	[ -z "$ez_caught" ] || kill -s "$ez_caught" "$ez_child"
	ez_wait "$ez_child"
} 3>&2 2>/dev/null
ez_code=$? ez_err=2

ez_phase='put'
eval "ez_copy put $ez_write"
ez_uploads=$?
# bash would remark on the end of the timer.
exec 2>/dev/null
# shellcheck disable=SC2086 # a number or nothing
ez_stop KILL $ez_timer
[ "$ez_code" -eq 0 ] || exit "$ez_code"
[ "$ez_uploads" -eq 0 ] || exit 191
exit 0

#!/bin/sh
# shellcheck shell=sh disable=SC2034,SC2154
# SC2034, SC2154: `why` and ez_why are read, and ez_root is set, in preloader.sh.
#
# The store that keeps s3://bucket/key as the file ROOT/bucket/key.
#
# A store NAME is three functions:
#
#   NAME_ready                                           can this image use it?
#   NAME_get SOURCE DESTINATION RECURSIVE SSE KMS OPTIONS  s3:// to here; RECURSIVE is auto, yes or no
#   NAME_put SOURCE DESTINATION RECURSIVE SSE KMS OPTIONS  here to s3://
#
# They return 0; 1 for a failure that another try may mend; 2 for one that it will not. After a failure `why` says in a
# few words what happened. They print nothing, and verify before they return 0. get and put run in a process of their own;
# ready does not: it may use names that begin with ez_ only, and says in ez_why what the image lacks.
#
# Here, an upload is first copied to ROOT/.ezbatch-partial.N, which is in no bucket, and then renamed file by file, so
# that nobody ever lists or reads a half-written object. As with `aws s3 cp`, links are followed, hidden files count, modes
# are not kept and empty directories do not exist; sse, KMS key and options have no meaning.

dir_ready() {
	ez_why="there is no directory $ez_root"
	[ -d "$ez_root/" ] || return
	for ez_tool in cp mv rm mkdir chmod wc; do
		command -v "$ez_tool" >/dev/null && continue
		ez_why="the image has no $ez_tool; add it (coreutils or busybox)"
		return 1
	done
}

# dir_kind: return 1 or 2 for the message in `why`, of which the last line is kept.
dir_kind() {
	why=${why##*"$ez_nl"}
	case $why in
	*'No space left'* | *'ermission denied'* | *'not permitted'* | *'Read-only file system'* | *'quota exceeded'*) return 2 ;;
	*'too long'* | *'ot a directory'* | *'s a directory'* | *'overwrite'* | *'File exists'*) return 2 ;;
	esac
	return 1
}

# dir_path URI: sets path, bucket.
dir_path() {
	path=${1#s3://}
	bucket=${path%%/*}
	if [ "$path" = "$1" ] || [ -z "$bucket" ]; then
		why="$1 is not an s3:// address"
		return 2
	fi
	case /$path/ in
	*/../* | /./*)
		why="$1 would leave the store"
		return 2
		;;
	esac
	path=${ez_root%/}/$path
	bucket=${ez_root%/}/$bucket
}

# dir_local PATH: sets here, absolute, because the copying changes directory.
dir_local() {
	case $1 in /*) here=$1 ;; *) here=${PWD:-.}/$1 ;; esac
}

# dir_parent FILE: make the directory it goes into.
dir_parent() {
	[ -d "${1%/*}/" ] || why=$(mkdir -p "${1%/*}/" 2>&1) || dir_kind
}

# dir_one FROM TO: one file under another name.
dir_one() {
	if [ -d "$2" ]; then
		why="$2 is a directory; end the destination with / to copy into it"
		return 2
	fi
	half=${stage:+$stage/object}
	half=${half:-$2}
	dir_parent "$half" || return
	why=$(cp -f "$1" "$half" 2>&1) || dir_kind || return
	chmod '=rw' "$half" 2>/dev/null
	if [ "$(wc -c <"$1")" != "$(wc -c <"$half")" ]; then
		why='the copy and its source differ in size'
		return 1
	fi
	[ -n "$stage" ] || return 0
	dir_parent "$2" || return
	why=$(mv -f "$half" "$2" 2>&1) || dir_kind
}

# dir_files FROM TO ./NAME...: files of one directory, by one process for each step however many there are.
dir_files() {
	from=$1 to=$2
	shift 2
	[ "$#" -gt 0 ] || return 0
	half=${stage:-$to}
	dir_parent "$half/" || return
	why=$(cd "$from/" && cp -f "$@" "$half/" 2>&1) || dir_kind || return
	(cd "$half/" && chmod '=rw' "$@") 2>/dev/null
	# The same names in the same order, so equal text is equal sizes, and no name has to be read out of it.
	if [ "$(cd "$from/" && wc -c "$@")" != "$(cd "$half/" && wc -c "$@")" ]; then
		why='a copy and its source differ in size'
		return 1
	fi
	if [ -n "$stage" ]; then
		dir_parent "$to/" || return
		why=$(cd "$stage/" && mv -f "$@" "$to/" 2>&1) || dir_kind || return
	fi
	count=$((count + $#))
}

# dir_tree FROM TO: every file below FROM. Adds to count; sets odd to a name that cannot be copied.
dir_tree() {
	# An unreadable directory looks empty to a glob.
	if ! [ -r "$1/" ] || ! [ -x "$1/" ]; then
		why="$1: permission denied"
		return 2
	fi
	set -- "$1" "$2"
	for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
		if [ -f "$entry" ]; then
			set -- "$@" "./${entry##*/}"
			if [ "$#" -gt 100 ]; then
				dir_files "$@" || return
				set -- "$1" "$2"
			fi
		elif [ -d "$entry" ]; then
			if [ -L "$entry" ]; then
				case $(cd -P "$1/" && pwd -P)/ in
				"$(cd -P "$entry/" && pwd -P)"/*)
					odd="$entry is a link to a directory above itself"
					continue
					;;
				esac
			fi
			dir_tree "$entry" "$2/${entry##*/}" || return
		elif [ -e "$entry" ] || [ -L "$entry" ]; then
			odd="$entry is neither a file nor a directory"
			[ -e "$entry" ] || odd="$entry is a link to nothing"
		fi
	done
	dir_files "$@"
}

# dir_all FROM TO NOTHING: dir_tree, with NOTHING as the reason if there was no file.
dir_all() {
	count=0 odd=
	dir_tree "${1%/}" "${2%/}" || return
	why=$odd
	[ -z "$odd" ] || return 2
	why=$3
	[ "$count" -gt 0 ] || return 2
}

dir_get() {
	stage=
	dir_path "$1" || return
	dir_local "$2"
	case $3$path in
	yes* | auto*/ | auto"$bucket") what=tree ;;
	no*/ | no"$bucket")
		why='recursive is False and the source is not the name of one object'
		return 2
		;;
	*) what=object ;;
	esac
	if [ "$what" = object ] && [ -f "$path" ]; then
		case $here in
		*/) here=$here${path##*/} ;;
		*) [ ! -d "$here" ] || here=$here/${path##*/} ;;
		esac
		dir_one "$path" "$here"
		return
	fi
	if [ "$3" != no ] && [ -d "$path/" ]; then
		dir_all "$path" "$here" 'no objects under this prefix'
		return
	fi
	why=$(cp "$path" /dev/null 2>&1)
	case $why in
	*'ermission denied'*) why='permission denied' ;;
	*)
		why='no such object'
		[ "$what" = object ] || why='no objects under this prefix'
		[ ! -d "$path/" ] || why='no such object, but objects below it: recursive=True copies those'
		[ -d "$bucket/" ] || why='no such bucket'
		;;
	esac
	return 2
}

dir_put() {
	dir_path "$2" || return
	dir_local "$1"
	while [ "$here" != "${here%/}" ]; do here=${here%/}; done
	if [ -d "$here/" ] && [ "$3" = no ]; then
		why='recursive is False and the source is a directory'
		return 2
	elif ! [ -f "$here" ] && ! [ -d "$here/" ]; then
		why='nothing was produced: there is no such file or directory'
		return 2
	fi
	n=0
	stage=${ez_root%/}/.ezbatch-partial.0
	# mkdir is the test and the claim in one: jobs in other containers may have this process number too.
	until why=$(mkdir "$stage" 2>&1); do
		case $why in *'File exists'*) ;; *) dir_kind || return ;; esac
		n=$((n + 1))
		stage=${stage%.*}.$n
	done
	trap 'rm -rf "$stage"; exit 143' TERM
	if [ -d "$here/" ]; then
		dir_all "$here" "$path" 'nothing was produced: the directory is empty'
	else
		case $path in */) path=$path${here##*/} ;; "$bucket") path=$path/${here##*/} ;; esac
		dir_one "$here" "$path"
	fi
	set -- "$?"
	rm -rf "$stage" 2>/dev/null
	trap - TERM
	return "$1"
}

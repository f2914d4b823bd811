#!/bin/sh
# shellcheck shell=sh disable=SC2030,SC2031,SC2034,SC2086,SC2154
# SC2034, SC2154: `why` and ez_why are read in preloader.sh, ez_nl is set there.
# SC2030, SC2031: the loop that sets `sizes` is a subshell's, as is all that reads it.
# SC2086: lists of flags, and of lines with IFS set, are split on purpose.
#
# The store that is S3 itself, by what the image has: s5cmd, python3 with boto3, or the AWS CLI (1 or 2). What a store is
# stands at the top of store_directory.sh.
#
# A client's word that all went well is not believed. What should have been copied is listed, and each file or object
# is looked at afterwards and must have the listed size; s5cmd, for one, ends with 0 when there was nothing left to do.
# Nor is it believed that the source stayed as it was: what is replaced while its parts are copied would be a mixture, of
# the right size. So the source is looked at again, too: ETags of what is big enough to be fetched in parts, and when a
# local file was last changed. An object that an earlier job left there cannot pass for this one's output then, either.
#
# Below, a listing is lines of SIZE, a tab and a name relative to the prefix or directory. s5cmd and the AWS CLI would
# each read more into a path than stands there (`*`, `?`), so nothing but --raw words and S3 keys reach them, and paths
# are absolute. A name with a newline is refused: their lists cannot be told apart then; boto3 copies those too.

ez_tab='	'
# ezbatch.preloader puts the text of that file here, packed. A file of the user's in the working directory must not
# stand in for a module.
ez_path='import sys;sys.path[:]=filter(None,sys.path);'
ez_program=$ez_path'store_s3.py.in'

s3_ready() {
	s3_find && return
	[ "$(id -u 2>/dev/null)" = 0 ] || return
	for ez_manager in apt-get dnf yum apk; do
		command -v "$ez_manager" >/dev/null || continue
		ez_say "$ez_why; until then $ez_manager installs one at every start"
		case $ez_manager in
		apt-get)
			apt-get -q update && s3_install python3-boto3 awscli -- env DEBIAN_FRONTEND=noninteractive \
				apt-get -qy --no-install-recommends install
			;;
		apk) s3_install aws-cli py3-boto3 s5cmd -- apk -q add --no-cache ;;
		*) s3_install awscli awscli-2 awscli2 python3-boto3 -- "$ez_manager" -qy install ;;
		esac >/dev/null 2>&1
		hash -r
		s3_find && return
		ez_why="$ez_why ($ez_manager could not)"
		return 1
	done
	return 1
}

# s3_install PACKAGE... -- COMMAND...: the first package that can be had and gives a client.
s3_install() {
	ez_names=
	while [ "$1" != -- ]; do
		ez_names="$ez_names $1"
		shift
	done
	shift
	for ez_name in $ez_names; do
		"$@" "$ez_name" && hash -r && s3_find && return
	done
}

# s3_find: sets ez_client. Each is asked whether it runs, since a binary may be another processor's, and s5cmd has
# `head` since 2.3.
s3_find() {
	ez_why=
	for ez_tool in mkdir sort stat uniq wc; do
		command -v "$ez_tool" >/dev/null || ez_why="the image has no $ez_tool; add coreutils"
	done
	ez_client=s5cmd
	[ -z "$ez_why" ] && command -v s5cmd >/dev/null && s5cmd head --help >/dev/null 2>&1 && return
	# A package of the distribution belongs to the distribution's Python, which need not be the first.
	for ez_client in python3 /usr/bin/python3; do
		"$ez_client" -c "${ez_path}import importlib.util as u;sys.exit(not u.find_spec('boto3'))" >/dev/null 2>&1 && return
	done
	ez_client=aws
	[ -z "$ez_why" ] && command -v aws >/dev/null && aws --version >/dev/null 2>&1 && return
	ez_why=${ez_why:-'the image has none of s5cmd 2.3, aws and python3 with boto3; add one of them'}
	return 1
}

# s3_begin URI PATH OPTIONS: sets bucket, key, here, url, and what the options say.
s3_begin() {
	key=${1#s3://} bucket=
	case $key in
	"$1") ;;
	*/*)
		bucket=${key%%/*}
		key=${key#*/}
		;;
	*) bucket=$key key= ;;
	esac
	why="$1 is not an s3:// address"
	[ -n "$bucket" ] || return 2
	case $2 in /*) here=$2 ;; *) here=${PWD%/}/$2 ;; esac
	case $1$2 in
	*"$ez_nl"*)
		why='with s5cmd and the AWS CLI a name cannot hold a newline; boto3 can'
		case $ez_client in *python3) ;; *) return 2 ;; esac
		;;
	esac
	# A name that the job exports, too, would be handed to each client, and these grow too long for that.
	unset list lines ours said sizes was
	url=${AWS_ENDPOINT_URL_S3:-${AWS_ENDPOINT_URL-}}
	eval "set -- $3"
	flags=${1-} words=${2-} filters=${3-}
	export PYTHONUTF8=1 AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off
	export AWS_RETRY_MODE="${AWS_RETRY_MODE:-standard}" AWS_MAX_ATTEMPTS="${AWS_MAX_ATTEMPTS:-8}"
	[ -z "${AWS_REGION-}" ] || export AWS_DEFAULT_REGION="${AWS_DEFAULT_REGION:-$AWS_REGION}"
	[ -z "$url" ] || export S3_ENDPOINT_URL="$url"
}

# s3_kind: make of a client's last line in `why` what it means; return 1 or 2 for it.
s3_kind() {
	why=${why##*"$ez_nl"}
	case $why in
	*NoSuchBucket*) why='no such bucket' ;;
	*NoSuchKey* | *'(404)'* | *'given object'*'not found'*) why='no such object' ;;
	*AccessDenied* | *Forbidden* | *'(403)'* | *' 403,'*) why="access denied ($why)" ;;
	*'redentials'* | *InvalidAccessKeyId* | *SignatureDoesNotMatch* | *ExpiredToken* | *InvalidToken*) ;;
	*InvalidArgument* | *'o space left'* | *'uota exceeded'* | *'Read-only file'* | *'ermission denied'*) ;;
	*'Unknown options'* | *'ot a directory'* | *'s a directory'* | *'ame too long'* | *'File exists'* | *'file exists'*) ;;
	*) return 1 ;;
	esac
	return 2
}

# s3_do COMMAND...: run it; what it says goes to why only if it fails.
s3_do() {
	why=$("$@" 2>&1 >/dev/null) || s3_kind
}

# s3_ask COMMAND...: run it; what it says goes to why.
s3_ask() {
	why=$("$@" 2>&1) || s3_kind
}

s3_s5() { s5cmd $flags "$@"; }

s3_aws() { LC_ALL=C.UTF-8 aws ${url:+"--endpoint-url=$url"} "$@" $flags; }

s3_python() {
	why=$("$ez_client" -c "$ez_program" "$@" "$bucket" "$key" "$here" "$url" "$flags" "$words" "$filters" 2>&1 >/dev/null)
	set -- "$?"
	why=${why##*"$ez_nl"}
	return "$1"
}

# s3_size: sets size, the object's, and said, which is another when the object is.
s3_size() {
	if [ "$ez_client" = aws ]; then
		s3_ask s3_aws s3api head-object --bucket "$bucket" "--key=$key" --query '[ContentLength,ETag]' --output text
	else
		s3_ask s3_s5 head --raw "s3://$bucket/$key"
	fi || return
	# The last line, since there may be warnings before it. s5cmd gives JSON and leaves out a size of 0. No string in it
	# can hold what is looked for: its quotes would have backslashes.
	said=${why##*"$ez_nl"}
	size=$said
	case $size in
	*',"size":'[0-9]*) size=${size#*',"size":'} ;;
	*\}) size=0 ;;
	esac
	size=${size%%[!0-9]*}
	[ -n "$size" ]
}

# s3_lines: what is below the prefix `key`, as the client prints it.
s3_lines() {
	if [ "$ez_client" = aws ]; then
		s3_aws s3api list-objects-v2 --bucket "$bucket" "--prefix=$key" --query 'Contents[].[Size,Key,ETag]' --output text
	else
		s3_s5 ls -e "s3://$bucket/$key*"
	fi
}

# s3_list: sets list, to what is below `key`.
s3_list() {
	list=
	lines=$(s3_lines 2>/dev/null) || {
		s3_do s3_lines
		set -- "$?"
		case $why in *'no object found'*) return 0 ;; esac
		[ "$1" -eq 0 ] || return "$1"
		# It did not fail again: worth another try.
		return 1
	}
	list=$(s3_parse) && return
	why=${list##*"$ez_nl"}
	return 2
}

# s3_no TEXT: the last line of a function that runs in $(...).
s3_no() {
	printf '%s\n' "$1"
	return 2
}

s3_parse() {
	# s5cmd leaves out what stands before the last / before the first wildcard.
	cut=${key%%[*?]*}
	case $cut in */*) cut=${cut%/*}/ ;; *) cut= ;; esac
	IFS=$ez_nl
	set -f
	for line in $lines; do
		case $line in
		[0-9][0-9][0-9][0-9]/??/??' '??:??:??' '*)
			line=${line#???????????????????}
			line=${line#"${line%%[! ]*}"}
			# The ETag.
			line=${line#"${line%%[ ]*}"}
			line=${line#"${line%%[! ]*}"}
			line=${line%%[!0-9]*}$ez_tab$cut${line#*[0-9]  }
			;;
		# Nothing, for the AWS CLI; and an empty folder, as consoles make it, for s5cmd.
		None | '          '*' DIR  '*/) continue ;;
		[0-9]*"$ez_tab"*"$ez_tab"*) line=${line%"$ez_tab"*} ;;
		*)
			s3_no "a key below $key holds a newline, which only boto3 can copy" || return
			;;
		esac
		name=${line#*"$ez_tab"}
		# Wildcards matched more than this prefix; and a key that ends with / is what consoles make for an empty folder.
		case $name in
		"$key"*/) continue ;;
		"$key"?*) name=${name#"$key"} ;;
		*) continue ;;
		esac
		case /$name/ in
		*/../*)
			s3_no "the key $key$name would leave the destination" || return
			;;
		esac
		[ -z "$filters" ] || s3_keep "$name" || continue
		printf '%s\n' "${line%%"$ez_tab"*}$ez_tab$name"
	done
}

# s3_folders: of the lines in why, name the keys that end with / but are not empty as folders are. The AWS CLI's lines are
# those of its list, those of s5cmd are JSON, where no string can hold what is looked for.
s3_folders() {
	IFS=$ez_nl
	set -f
	for line in $why; do
		case $line in
		[1-9]*"$ez_tab"*/"$ez_tab"*)
			name=${line#*"$ez_tab"}
			name=${name%"$ez_tab"*}
			;;
		*'","type":"directory","size":'*)
			name=${line#*"//$bucket/"}
			name=${name%%'","'*}
			;;
		*) continue ;;
		esac
		name=${name#"$key"}
		[ -z "$filters" ] || s3_keep "$name" || continue
		s3_no "the key $key$name ends with / but is not empty: it cannot be a file, and --exclude can leave it out"
		return
	done
}

# s3_whole: are all keys that hold something such as can be files?
s3_whole() {
	case $lines in
	*' DIR  '*) s3_ask s3_s5 --json ls "s3://$bucket/$key*" || return ;;
	*/"$ez_tab"*) why=$lines ;;
	*) return 0 ;;
	esac
	why=$(s3_folders)
}

# s3_parts SIZES: is one of these big enough for a client to fetch it in parts? Less comes in one answer.
s3_parts() {
	case $1 in *[0-9][0-9][0-9][0-9][0-9][0-9][0-9]"$ez_tab"*) ;; *) return 1 ;; esac
}

# s3_still: is every object of the list what it was when it was listed?
s3_still() {
	s3_parts "$list" || return 0
	s3_ask s3_lines || return
	# Those that are listed no more.
	lines=$(printf '%s\n' "$lines" "$why" "$why" | sort | uniq -u)
	list=$(s3_parse)
	why="$key${list##*"$ez_tab"} changed while it was copied"
	[ -z "$list" ]
}

# s3_keep NAME: whether --include and --exclude, of which the last that fits counts, leave it.
s3_keep() {
	name=$1 keep=1
	eval "set -- $filters"
	while [ "$#" -gt 1 ]; do
		# shellcheck disable=SC2254 # it is a pattern
		case $name in $2) case $1 in --include) keep=1 ;; *) keep= ;; esac ;; esac
		shift 2
	done
	[ -n "$keep" ]
}

# s3_walk PREFIX: list the files below the working directory's PREFIX; or say why not.
s3_walk() {
	if ! [ -r "./$1" ] || ! [ -x "./$1" ]; then
		s3_no "$here/$1: permission denied" || return
	fi
	set -- "$1"
	for entry in "$1"* "$1".[!.]* "$1"..?*; do
		if [ -f "$entry" ]; then
			case $entry in
			*"$ez_nl"*)
				s3_no "a name below $here holds a newline, which only boto3 can copy" || return
				;;
			esac
			[ -z "$filters" ] || s3_keep "$entry" || continue
			set -- "$@" "$entry"
			[ "$#" -gt 100 ] || continue
			s3_sizes "$@" || return
			set -- "$1"
		elif [ -d "$entry" ]; then
			if [ -L "$entry" ]; then
				case $(cd -P "./$1" && pwd -P)/ in
				"$(cd -P "./$entry" && pwd -P)"/*)
					s3_no "$here/$entry is a link to a directory above itself" || return
					;;
				esac
			fi
			s3_walk "$entry/" || return
		elif [ -e "$entry" ]; then
			s3_no "$here/$entry is neither a file nor a directory" || return
		elif [ -L "$entry" ]; then
			s3_no "$here/$entry is a link to nothing" || return
		fi
	done
	s3_sizes "$@"
}

# s3_sizes PREFIX NAME...: a line of the list for each, and one that says when it was last changed.
s3_sizes() {
	shift
	[ "$#" -eq 0 ] || stat -Lc "%s$ez_tab%n$ez_nl=%z$ez_tab%n" -- "$@"
}

# s3_quoted TEXT: sets quoted, as s5cmd run and eval read it.
s3_quoted() {
	quoted='' text=$1
	while :; do
		case $text in *\'*) ;; *) break ;; esac
		quoted="$quoted${text%%\'*}'\\''"
		text=${text#*\'}
	done
	quoted="'$quoted$text'"
}

# s3_batch get|put: a line for s5cmd run for each line of the list.
s3_batch() {
	IFS=$ez_nl
	set -f
	s3_quoted "$here/"
	ours=${quoted%\'}
	s3_quoted "s3://$bucket/$key"
	theirs=${quoted%\'}
	for line in $list; do
		case $line in =*) continue ;; esac
		s3_quoted "${line#*"$ez_tab"}"
		quoted=${quoted#\'}
		if [ "$1" = get ]; then
			printf '%s\n' "cp --raw $theirs$quoted $ours$quoted"
		else
			printf '%s\n' "cp --raw $words $ours$quoted $theirs$quoted"
		fi
	done
}

# s3_run get|put: the whole list. What s5cmd can take as one directory or prefix costs half the requests, so it gets a
# line for each file only where a wildcard, or a filter, would mean something else to it.
s3_run() {
	case $here$key$filters in
	*[*?[\\]* | *--*clude*)
		s3_batch "$1" | s3_s5 run
		return
		;;
	esac
	if [ "$1" = get ]; then
		s3_s5 cp "s3://$bucket/$key*" "$here/"
	else
		eval "set -- $words"
		s3_s5 cp "$@" "$here/" "s3://$bucket/$key"
	fi
}

# s3_arrived: does every file of the list have its size here?
s3_arrived() (
	IFS=$ez_nl
	set -f
	set --
	sizes=
	for line in $list; do
		name=${line#*"$ez_tab"}
		[ -f "$here/$name" ] || return
		# A name may begin with / or -.
		set -- "$@" "./$name"
		sizes=$sizes${line%%"$ez_tab"*}$ez_nl
		[ "$#" -ge 100 ] || continue
		s3_same "$@" || return
		set --
		sizes=
	done
	[ "$#" -eq 0 ] || s3_same "$@"
)

s3_same() { [ "$(cd "$here/" && stat -Lc %s "$@")$ez_nl" = "$sizes" ]; }

# s3_paths: the names of the list as the file system takes them, for which // is / and /./ is /.
s3_paths() {
	IFS=$ez_nl
	set -f
	for line in $list; do
		name=/${line#*"$ez_tab"}
		while :; do
			case $name in
			*//*) name=${name%%//*}/${name#*//} ;;
			*/./*) name=${name%%/./*}/${name#*/./} ;;
			*) break ;;
			esac
		done
		printf '%s\n' "$name"
	done
}

s3_get() {
	s3_begin "$1" "$2" "$6" || return
	case $3$key in
	yes* | auto | auto*/) what=tree ;;
	no | no*/)
		why='recursive is False and the source is not the name of one object'
		return 2
		;;
	*) what=object ;;
	esac
	case $ez_client in *python3)
		s3_python get "$3" "$what"
		return
		;;
	esac
	if [ "$what" = object ]; then
		s3_size
		found=$?
		if [ "$found" -eq 0 ]; then
			case $here in
			*/) here=$here${key##*/} ;;
			*) [ ! -d "$here" ] || here=$here/${key##*/} ;;
			esac
			s3_do mkdir -p "${here%/*}/" || return
			if [ "$ez_client" = aws ]; then
				s3_do s3_aws s3 cp --only-show-errors "s3://$bucket/$key" "$here" || return
			else
				s3_do s3_s5 cp --raw "s3://$bucket/$key" "$here" || return
			fi
			why='the copy and its source differ in size'
			[ -f "$here" ] && [ "$(stat -Lc %s -- "$here")" = "$size" ] || return
			s3_parts "$size$ez_tab" || return 0
			was=$said
			s3_size || return
			why='it changed while it was copied'
			[ "$said" = "$was" ]
			return
		fi
		[ "$why" = 'no such object' ] || return "$found"
	fi
	[ -z "$key" ] || key=${key%/}/
	s3_list || return
	if [ "$what$3" = objectno ] && [ -n "$list" ]; then
		why='no such object, but objects below it: recursive=True copies those'
		return 2
	fi
	s3_whole || return
	why='no objects under this prefix'
	[ "$what" = tree ] || why='no such object'
	[ -n "$list" ] || return 2
	case $list in *"$ez_tab"/* | *"$ez_tab"./* | *//* | */./*)
		why=$(s3_paths | sort | uniq -d)
		if [ -n "$why" ]; then
			why="two keys would be one file, ${why##*"$ez_nl"}"
			return 2
		fi
		;;
	esac
	here=${here%/}
	s3_do mkdir -p "$here/" || return
	if [ "$ez_client" = aws ]; then
		eval "set -- $filters"
		s3_do s3_aws s3 cp --only-show-errors --recursive "s3://$bucket/$key" "$here/" "$@" || return
	else
		s3_do s3_run get || return
	fi
	why='a copy and its source differ in size'
	s3_arrived && s3_still
}

# s3_files: sizes and names of what is to be uploaded, and when it was last changed.
s3_files() {
	if [ "$what" = tree ]; then
		cd "$here/" && s3_walk ''
	else
		s3_sizes . "$here"
	fi
}

# s3_unsure: the upload went well, but not the look at it.
s3_unsure() {
	set -- "$?"
	why="uploaded, but it cannot be verified: $why"
	return "$1"
}

s3_put() {
	s3_begin "$2" "$1" "$6" || return
	while [ "$here" != "${here%/}" ]; do here=${here%/}; done
	what=object
	if [ -d "$here/" ]; then
		what=tree
		if [ "$3" = no ]; then
			why='recursive is False and the source is a directory'
			return 2
		fi
		[ -z "$key" ] || key=${key%/}/
	elif [ -f "$here" ]; then
		case $key in '' | */) key=$key${here##*/} ;; esac
		why='the options exclude it'
		[ -z "$filters" ] || s3_keep "${here##*/}" || return 2
	else
		why='nothing was produced: there is no such file or directory'
		return 2
	fi
	[ -z "$4" ] || words="$words --sse $4"
	if [ -n "$5" ]; then
		s3_quoted "$5"
		words="$words --sse-kms-key-id $quoted"
	fi
	case $ez_client in *python3)
		s3_python put "$3" "$what"
		return
		;;
	esac
	ours=$(s3_files) || {
		why=${ours##*"$ez_nl"}
		return 2
	}
	why='nothing was produced: the directory is empty'
	[ -n "$ours" ] || return 2
	list=$ours
	eval "set -- $words"
	if [ "$what$ez_client" = objectaws ]; then
		s3_do s3_aws s3 cp --only-show-errors "$here" "s3://$bucket/$key" "$@"
	elif [ "$what" = object ]; then
		s3_do s3_s5 cp --raw "$@" "$here" "s3://$bucket/$key"
	elif [ "$ez_client" = aws ]; then
		eval "set -- $words $filters"
		s3_do s3_aws s3 cp --only-show-errors --recursive "$here/" "s3://$bucket/$key" "$@"
	else
		s3_do s3_run put
	fi
	set -- "$?" "$why"
	why="$here changed while it was uploaded"
	[ "$(s3_files)" = "$ours" ] || return
	why=$2
	[ "$1" -eq 0 ] || return "$1"
	if [ "$what" = object ]; then s3_size; else s3_list; fi || s3_unsure || return
	why='the copy and its source differ in size'
	if [ "$what" = object ]; then
		[ "${ours%%"$ez_tab"*}" = "$size" ]
	else
		# What is in both lists is there twice; ours has two lines for each file.
		[ "$(printf '%s\n' "$ours" | wc -l)" -eq "$((2 * $(printf '%s\n' "$ours" "$list" | sort | uniq -d | wc -l)))" ]
	fi
}

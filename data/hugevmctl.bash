# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion of hugevmctl. Commands and options are those that --help lists, so that none
# is written down twice.

_hugevmctl_words() { # PATTERN [COMMAND]: what --help lists so
    local help
    help=$(LC_ALL=C hugevmctl ${2:+"$2"} --help 2>/dev/null)
    [[ $1 == commands ]] && help=${help#*Commands:}
    case $1 in
    commands) sed -n 's/^  \([a-z]\{1,\}\)  .*/\1/p' <<<"$help" ;;
    options) grep -oE -- '--[a-z-]+' <<<"$help" | sort -u ;;
    esac
}

_hugevmctl_vms() { # UUIDs of VMs with a claim; as root, claims itself would repair first
    sed -n 's/^ *"uuid" : "\([0-9a-f-]\{36\}\)".*/\1/p' /run/hugevm/ledger.json 2>/dev/null
}

_hugevmctl_defined_vms() { # names of VMs that libvirt keeps; those with blanks it cannot complete
    virsh -q -r -c qemu:///system list --all --name 2>/dev/null | grep -v '[[:space:]]'
}

_hugevmctl() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' word words='' i at=0
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [[ ${COMP_WORDS[i - 1]} == --root || ${COMP_WORDS[i - 1]} == --conf ]] && continue
        [[ $word != -* && $word != = ]] && command=$word && at=$i && break
    done
    COMPREPLY=()
    case $previous in
    --root | --conf) compopt -o default 2>/dev/null; return ;;
    -p | --property) words='hugepages= hugepages_shared='; compopt -o nospace 2>/dev/null ;;
    -c | --connect) words=qemu:///system ;;
    --for | --wait | --libvirt-version | --qemu-version) return ;;
    *)
        if [[ $current == -* ]]; then
            words=$(_hugevmctl_words options "$command")
        else
            case $command in
            '') words=$(_hugevmctl_words commands) ;;
            run | plan | define) compopt -o default 2>/dev/null; return ;;
            set)
                if ((COMP_CWORD == at + 1)); then
                    words=$(_hugevmctl_defined_vms)
                else
                    words='hugepages= shared='
                    compopt -o nospace 2>/dev/null
                fi
                ;;
            release | verify) words=$(_hugevmctl_vms) ;;
            esac
        fi
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _hugevmctl hugevmctl

# Installs Debian packages on top of the lab's tree and archives what an image needs of them: the files that
# the installation added, the libraries that its programs load, /etc/passwd and the locale C.UTF-8. Runs in a private mount
# namespace with arguments TREE SCRATCH ARCHIVE PACKAGE...; SCRATCH is an empty directory that overlayfs can
# write to.
set -eu
tree=$1 scratch=$2 archive=$3
shift 3

cd "$scratch"
mkdir lower upper work root
mount --bind "$tree" lower
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root
mount -t proc proc root/proc
cp /etc/resolv.conf root/etc/
chroot root apt-get -q update
DEBIAN_FRONTEND=noninteractive DPKG_FORCE=unsafe-io \
	chroot root apt-get -qy --no-install-recommends install "$@"

mkdir -p upper/usr/bin upper/usr/sbin upper/usr/lib upper/usr/lib64 upper/run upper/tmp
chmod 1777 upper/tmp
for link in bin sbin lib lib64; do
	[ ! -L "root/$link" ] || cp -a "root/$link" upper/
done

# What the packages have brought or changed is in upper already: a copy would be one of the file onto itself.
add() {
	while read -r file; do
		[ -e "upper/$file" ] || (cd root && cp -L --parents --preserve=mode,ownership --target-directory=../upper "$file")
	done
}
printf '%s\n' ./etc/passwd ./etc/group | add
(cd root && find ./usr/lib/locale/C.utf8 -type f) | add # what initdb has made needs it

# ldd fails on what is no dynamic program; the loader itself is among the libraries. A library that a program loads by
# itself, as java does its machine, needs others, too, and need not be executable.
find upper -type f '(' -perm /111 -o -name '*.so' -o -name '*.so.*' ')' -printf '/%P\n' >root/tmp/programs
chroot root sh -c 'xargs ldd </tmp/programs 2>/dev/null || true' |
	sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/.\1/p' | sort -u | add

tar -C upper -cf "$archive" --exclude=./var/lib/dpkg --exclude=./var/lib/apt --exclude=./var/cache --exclude=./var/log/apt \
	--exclude=./etc/resolv.conf --exclude='./tmp/*' --exclude=./usr/share/doc --exclude=./usr/share/man .

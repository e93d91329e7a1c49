# Boots systemd in a copy of the root file system $1, in the directory $2, the control group $3 and the network namespace $4.
set -e
mkdir "$3"
echo $$ >"$3/cgroup.procs"
exec nsenter --net="$4" unshare --mount --pid --uts --ipc --cgroup --fork --kill-child sh -c '
set -e
cd "$2"
mkdir root upper work data
mount -t overlay -o "lowerdir=$1,upperdir=upper,workdir=work" overlay root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
# The engine cannot lay its own layers on ours.
mkdir -p var/lib/docker
mount --bind ../data var/lib/docker
pivot_root . mnt
umount --lazy mnt
exec env --ignore-environment container=dfwt PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
' sh "$1" "$2"

# Stands in for wollomatic/socket-proxy, which cannot be had without its registry: takes the same words, and lets HAProxy do
# what they say.
for word; do
    case $word in
        -proxysocketendpoint=*) endpoint=${word#*=} ;;
        -allowGET=*) allowed=${word#*=} ;;
        -watchdoginterval=* | -stoponwatchdog) ;;
        *) echo "nobody knows $word: teach tests/tests/ship/proxy.sh" >&2; exit 2 ;;
    esac
done
busybox cat >/dev/shm/haproxy.cfg <<END
global
    maxconn 100
    log stdout format raw local0 info
defaults
    mode http
    log global
    option httplog
    option http-no-delay
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend proxy
    bind unix@$endpoint mode 600
    http-request deny deny_status 403 unless { method GET } { path -m reg '^($allowed)\$' }
    default_backend engine
backend engine
    server engine unix@/var/run/docker.sock
END
exec /usr/sbin/haproxy -db -f /dev/shm/haproxy.cfg

#!/usr/bin/perl
# Runs as a unit's own user inside its sandbox, in the program's place, and tries what the unit must refuse.
# Prints one line for each attempt; ends with 1 when one was not refused, or failed for another reason than it should.
use strict;
use warnings;
use Errno qw(EACCES ENOENT EPERM EROFS EAFNOSUPPORT);
use Socket;

my ($side) = @ARGV;
my $missed = 0;
my %word = (EACCES, "EACCES", ENOENT, "ENOENT", EPERM, "EPERM", EROFS, "EROFS", EAFNOSUPPORT, "EAFNOSUPPORT", 0, "DONE");

sub attempt {
    my ($what, $try, @refusals) = @_;
    $! = 0;
    my $done = $try->();
    my $error = $done ? 0 : $! + 0;
    my $right = !$done && grep { $_ == $error } @refusals;
    $missed++ unless $right;
    printf "%-7s %-6s %s: %s\n", $right ? "refused" : "MISSED", $side, $what, $word{$error} // "errno $error";
}

sub reads  { my $path = shift; sub { open my $file, "<", $path } }
sub lists  { my $path = shift; sub { opendir my $folder, $path } }
sub writes { my $path = shift; sub { open my $file, ">", $path } }
# A raw system call of x86-64: with its number nothing of a library is in between.
sub calls { my @call = @_; sub { syscall($call[0], @call[1 .. $#call]) != -1 } }
sub opens_socket { my @kind = @_; sub { socket my $socket, $kind[0], $kind[1], 0 } }

attempt("write to /usr/bin",          writes("/usr/bin/mine"),         EROFS);
attempt("write to /etc/keyferry",     writes("/etc/keyferry/mine"),    EROFS);
attempt("write to /var/lib",          writes("/var/lib/mine"),         EROFS);
attempt("write to /run/lock, which everybody may", writes("/run/lock/mine-$side"), EROFS);
attempt("change a kernel setting",    writes("/proc/sys/kernel/core_pattern"), EACCES, EROFS, ENOENT);
attempt("look into /home",            lists("/home"),                  EACCES, ENOENT);
attempt("look into /root",            lists("/root"),                  EACCES, ENOENT);
attempt("see the first process",      reads("/proc/1/status"),         ENOENT);
attempt("see /proc/kallsyms",         reads("/proc/kallsyms"),         ENOENT);
attempt("open the kernel's log",      reads("/dev/kmsg"),              EACCES, EPERM, ENOENT);
attempt("find another service's /tmp", reads("/tmp/keyferry-host-marker"), ENOENT);
attempt("a netlink socket",           opens_socket(16, SOCK_RAW),      EAFNOSUPPORT);
attempt("a packet socket",            opens_socket(17, SOCK_RAW),      EAFNOSUPPORT);
attempt("memory to write and execute", calls(9, 0, 4096, 7, 0x22, -1, 0), EPERM, EACCES);
attempt("a user namespace",           calls(272, 0x10000000),          EPERM);
attempt("a mount",                    calls(165, 0, 0, 0, 0, 0),       EPERM);
attempt("trace a process",            calls(101, 0, 0, 0, 0),          EPERM);
attempt("set the clock",              calls(227, 0, 0),                EPERM);
attempt("real-time scheduling",       calls(144, 0, 1, pack("i", 1)),  EPERM);
attempt("another personality",        calls(135, 0x0040000),           EPERM);
attempt("a set-user-id file",         sub {
    open my $file, ">", "/tmp/mine" or return 1;
    my $done = chmod 04755, "/tmp/mine";
    my $error = $! + 0;
    unlink "/tmp/mine";
    $! = $error;
    $done;
}, EPERM);

if ($side eq "loader") {
    attempt("read the broker's configuration", reads("/etc/keyferry/broker.yaml"), EACCES, ENOENT);
    attempt("read the role_id",        reads("/etc/keyferry/role-id"),          EACCES, ENOENT);
    attempt("see the broker's credential", lists("/run/credentials"),           EACCES, ENOENT);
    attempt("see the sealed credential", lists("/etc/credstore.encrypted"),     EACCES, ENOENT);
    attempt("see the keytab's folder", lists("/run/keyferry-private"),          EACCES, ENOENT);
    attempt("read the audit log",      reads("/var/log/keyferry/audit.log"),    EACCES, ENOENT);
    attempt("take the socket away",    sub { unlink "/run/keyferry/broker.sock" }, EROFS, EACCES);
    attempt("put a socket beside it",  writes("/run/keyferry/mine"),            EROFS, EACCES);
} else {
    attempt("read a pipeline of the loader's", reads("/etc/keyferry/pipelines/sales-nightly.yaml"), EACCES);
    attempt("look into the loader's spool", lists("/var/cache/keyferry-loader"), EACCES);
    attempt("write the loader's metrics", writes("/var/lib/keyferry-loader/mine"), EROFS);
    attempt("write over its own credential", writes("/run/credentials/keyferry-broker.service/secret-id"), EROFS, EACCES);
}
exit($missed ? 1 : 0);

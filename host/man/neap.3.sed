# neap.3 from host/neap.h: its comments as text, its declarations as they are.
1i .TH NEAP 3 2026-11-21 "neap 0.1.0" "C library"\
.SH NAME\
neap \\- a host for Lua tasks, with Redis, models and HTTP, in a program\
.SH SYNOPSIS\
.nf\
#include <neap.h>\
\
cc program.c $(pkg-config \\-\\-cflags \\-\\-libs neap)\
.fi\
.SH DESCRIPTION\
.nf
/^#/d
/^extern "C"/d
/^}$/d
s/\\/\\e/g
s/-/\\-/g
s/^\/\/ \\-\\- \(.*\)/.SH \U\1\E\n.nf/
/^\.SH /b
s/^\/\/ \{0,1\}//
s/^\(['.]\)/\\\&\1/
$a .fi\
.SH SEE ALSO\
.BR neap (1)

# neap: `make help` lists what can be made.

CC      ?= cc
BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
OPT     ?= -O2
SAN     ?=

VERSION := 0.1.0
LIBS    := luajit libuv hiredis

WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror
CPPFLAGS += -Ihost -D_GNU_SOURCE -DNEAP_VERSION='"$(VERSION)"' \
            $(shell pkg-config --cflags $(LIBS) 2>/dev/null) \
            -idirafter /usr/include/lua5.1
CFLAGS   += -std=c11 $(OPT) -g -fno-omit-frame-pointer $(WARN) $(SAN)
LDLIBS   += -llua5.1-luv $(shell pkg-config --libs $(LIBS) 2>/dev/null) -lm -lpthread
LDFLAGS  += $(SAN)

LUA   := $(shell find lua models -name '*.lua' | sort)
SRC   := $(filter-out host/cli/%,$(shell find host -name '*.c' | sort))
CLI   := $(wildcard host/cli/*.c)
OBJ   := $(SRC:%.c=$(BUILD)/%.o) $(BUILD)/modules.o
TESTS := $(patsubst spec/c/%.c,$(BUILD)/spec/%,$(wildcard spec/c/*_test.c))

BUILD_PACKAGES := gcc libc6-dev pkg-config libluajit-5.1-dev libuv1-dev lua-luv-dev libhiredis-dev
RUN_PACKAGES   := redis-server
TEST_PACKAGES  := clang libclang-rt-14-dev lua-busted libcmocka-dev redis-tools clang-format \
                  lua-check chromium procps

.PHONY: all build run test lint bench install clean help deps test-deps c-tests specs \
        sanitized clang browser check

all: build
build: $(BUILD)/neap

$(BUILD)/neap: $(CLI:%.c=$(BUILD)/%.o) $(BUILD)/libneap.a
	$(CC) $(LDFLAGS) -Wl,-E -o $@ $^ $(LDLIBS)

$(BUILD)/libneap.a: $(OBJ)
	@rm -f $@
	ar rcs $@ $(OBJ)

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The Lua files go into the binary as they are; modules.c is their table.
$(BUILD)/modules.c: $(LUA) Makefile
	@mkdir -p $(@D)
	@{ echo '#include "lua/modules.h"'; n=0; list=; \
	for f in $(LUA); do n=$$((n + 1)); \
	  name=$$(echo $$f | sed -e 's|^lua/||' -e 's|\.lua$$||' -e 's|/|.|g'); \
	  printf '%s\n' "__asm__(\".pushsection .rodata; lua_$$n: .incbin \\\"$$f\\\"; lua_end_$$n: .byte 0; .popsection\");"; \
	  echo "extern const char lua_$$n[] __asm__(\"lua_$$n\"), lua_end_$$n[] __asm__(\"lua_end_$$n\");"; \
	  list="$$list {\"$$name\", lua_$$n, lua_end_$$n},"; \
	done; echo "const struct module modules[] = {$$list {0, 0, 0}};"; } > $@

$(BUILD)/modules.o: $(BUILD)/modules.c $(LUA)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/spec/%: spec/c/%.c $(BUILD)/libneap.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< $(BUILD)/libneap.a -lcmocka $(LDLIBS)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

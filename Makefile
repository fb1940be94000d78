# neap: `make help` lists what can be made.

## make            builds build/neap, build/libneap.a and build/libneap.so
## make run        installs what is missing, builds, starts the pastebin
## make test       installs what is missing, runs all that is listed below;
##                 its last line: N passed, M failed
## make c-tests    the C tests
## make specs      the Lua specs; SPECS="spec/x_spec.lua" runs some of them
## make sanitized  both under address and undefined behaviour sanitizers
## make clang      compiles everything with clang; a warning is a failure
## make lint       format, luacheck, documentation of public names
## make browser    drives the pastebin in a headless Chromium
## make bench      the benchmarks
## make soak       twice ten minutes of faults under load; SECONDS=60 for one
## make fuzz       random queries against a look at every row; QUERIES=100000,
##                 SEED=7; WRITERS=8 SECONDS=60: while tasks write
## make growth     a table of queries while a model grows to a million rows;
##                 ROWS="10000 10000000" for others
## make format     lays out the C sources as lint wants them
## make install    into PREFIX (/usr/local), below DESTDIR if that is set
## make deps       the packages for make run (Debian 12 and 13, root or sudo)
## make test-deps  the packages for make test
## make clean      removes what was built
##
## V=1 shows whole commands; BUILD=folder builds elsewhere; CC, CFLAGS,
## CPPFLAGS, LDFLAGS and WERROR=-Werror are yours.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
CFLAGS  ?= -O2 -g
WERROR  ?=
SPECS   ?=
SECONDS ?= 600
ROWS    ?=
VERSION := 0.1.0
SONAME  := libneap.so.0
LIBS    := luajit libuv hiredis openssl zlib

FLAGS := -std=c11 -Wall -Wextra -Wshadow -Wstrict-prototypes $(WERROR) \
         -fno-omit-frame-pointer -fPIC -Ihost -D_GNU_SOURCE \
         -DNEAP_VERSION='"$(VERSION)"' \
         $(shell pkg-config --cflags $(LIBS) 2>/dev/null) \
         -idirafter /usr/include/lua5.1 $(CPPFLAGS) $(CFLAGS)
LINKS := $(LDFLAGS) -llua5.1-luv \
         $(shell pkg-config --libs $(LIBS) 2>/dev/null) -lm -lpthread -ldl

LUA   := $(shell find lua models -name '*.lua' | sort)
SRC   := $(shell find host -name '*.c' -not -path 'host/cli/*' | sort)
OBJ   := $(SRC:%.c=$(BUILD)/%.o) $(BUILD)/modules.o
CLI   := $(patsubst %.c,$(BUILD)/%.o,$(wildcard host/cli/*.c))
TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard spec/c/*_test.c))

BUILD_PACKAGES := gcc libc6-dev pkg-config libluajit-5.1-dev libuv1-dev \
                  lua-luv-dev libhiredis-dev libssl-dev libcurl4-openssl-dev \
                  zlib1g-dev libedit-dev
RUN_PACKAGES   := redis-server
TEST_PACKAGES  := clang clang-format lua-check lua-busted libcmocka-dev \
                  redis-tools openssl chromium chromium-driver curl procps \
                  nghttp2-server tmux python3 lua-lpeg util-linux

# Both rebuild in full, in folders of their own.
SANITIZED = BUILD=$(BUILD)/sanitized CFLAGS="-O1 -g -DNEAP_CHECKS $(SAN)" LDFLAGS="$(SAN)"
SAN      := -fsanitize=address,undefined -fno-sanitize-recover=all
CLANG     = BUILD=$(BUILD)/clang CC=clang WERROR=-Werror

# Make started by make shares the outer one's job slots, if it has any.
JOBS = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

# V=1 shows the commands instead of these.
V   ?=
Q   := $(if $(V),,@)
say  = $(if $(V),,@echo '$1 $2')

.PHONY: all build run test c-tests specs sanitized clang lint format browser \
        bench soak fuzz growth install deps test-deps clean help compiled force
.DELETE_ON_ERROR:

all: build
build: $(BUILD)/neap $(BUILD)/$(SONAME)

help:
	@sed -n 's/^## \{0,1\}//p' Makefile

# What is built

$(BUILD)/neap: $(CLI) $(BUILD)/libneap.a
	$(call say,LD,$@)
	$(Q)$(CC) -Wl,-E -o $@ $^ $(LINKS) -ledit

# Whoever embeds the host sees its public names and no others.
$(BUILD)/libneap.a: $(OBJ)
	$(call say,AR,$@)
	$(Q)$(LD) -r -o $(BUILD)/neap.o $(OBJ)
	$(Q)objcopy --wildcard --keep-global-symbol='neap_*' $(BUILD)/neap.o
	$(Q)rm -f $@ && $(AR) rcs $@ $(BUILD)/neap.o

$(BUILD)/$(SONAME): $(BUILD)/libneap.a
	$(call say,LD,$@)
	$(Q)echo '{ global: neap_*; local: *; };' > $(BUILD)/neap.map
	$(Q)$(CC) -shared -Wl,-soname,$(SONAME) -Wl,--version-script,$(BUILD)/neap.map \
	  -Wl,-z,defs -o $@ $(BUILD)/neap.o $(LINKS)
	$(Q)ln -sf $(SONAME) $(BUILD)/libneap.so

# The tests see all names.
$(BUILD)/internal.a: $(OBJ)
	$(Q)rm -f $@ && $(AR) rcs $@ $(OBJ)

$(BUILD)/%.o: %.c Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FLAGS) -MMD -MP -c -o $@ $<

# The Lua files go into the binary as they are; modules.c is their table. It is
# made anew when the list of files changes, modules.o when one of them does.
$(BUILD)/modules.list: force
	@mkdir -p $(@D)
	@echo $(LUA) | cmp -s - $@ || echo $(LUA) > $@

$(BUILD)/modules.c: $(BUILD)/modules.list Makefile
	@{ echo '#include "lua/modules.h"'; n=0; list=; \
	for f in $(LUA); do n=$$((n + 1)); \
	  name=$$(echo $$f | sed -e 's|^lua/||' -e 's|\.lua$$||' -e 's|/|.|g'); \
	  printf '%s\n' "__asm__(\".pushsection .rodata; lua_$$n: .incbin \\\"$$f\\\"; lua_end_$$n: .byte 0; .popsection\");"; \
	  echo "extern const char lua_$$n[] __asm__(\"lua_$$n\"), lua_end_$$n[] __asm__(\"lua_end_$$n\");"; \
	  list="$$list {\"$$name\", lua_$$n, lua_end_$$n},"; \
	done; echo "const struct module modules[] = {$$list {0, 0, 0}};"; } > $@

$(BUILD)/modules.o: $(BUILD)/modules.c $(LUA)
	$(call say,CC,$<)
	$(Q)$(CC) $(FLAGS) -c -o $@ $<

# Which Lua a C file takes in by itself, no compiler tells.
$(BUILD)/host/model/commit.o: $(wildcard host/model/apply*.lua)

$(BUILD)/spec/c/%_test: spec/c/%_test.c $(BUILD)/internal.a
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FLAGS) -MMD -MP -o $@ $< $(BUILD)/internal.a -lcmocka $(LINKS)

-include $(OBJ:.o=.d) $(CLI:.o=.d) $(TESTS:=.d)

# What is run

# What pkg-config says is known once the packages are there: so make anew.
run: deps
	@$(MAKE) --no-print-directory $(JOBS) build
	@exec $(BUILD)/neap examples/pastebin.lua

test: test-deps
	@BUILD=$(BUILD) sh spec/all.sh $(MAKE) --no-print-directory $(JOBS)

c-tests: $(TESTS)
	@failed=; for t in $(TESTS); do \
	  timeout -k 5 120 $$t || failed="$$failed $$t($$?)"; \
	done; test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

specs: build
ifneq ($(SPECS),)
	@timeout -k 5 400 $(BUILD)/neap --slow 5000 spec/run.lua $(SPECS)
else
	@BUILD=$(BUILD) sh spec/each.sh
endif

# Leaks count too: what the host opened has to be closed at its end.
sanitized: export UBSAN_OPTIONS ?= print_stacktrace=1
sanitized: export LSAN_OPTIONS ?= suppressions=$(CURDIR)/spec/support/leaks.supp:print_suppressions=0
sanitized:
	@$(MAKE) --no-print-directory $(SANITIZED) compiled
	@status=0; for suite in c-tests specs; do \
	  $(MAKE) --no-print-directory $(SANITIZED) $$suite || status=1; \
	done; exit $$status

clang:
	@$(MAKE) --no-print-directory -k $(CLANG) compiled

compiled: build $(TESTS)

# Each version of clang-format has a layout of its own: Debian 12's counts.
lint: build
	@status=0; \
	if clang-format --version | grep -q 'version 14\.'; then \
	  clang-format --dry-run -Werror $$(find host spec/c -name '*.[ch]') || status=1; \
	else echo 'format: not checked, that takes clang-format 14'; fi; \
	luacheck -q --no-color --codes $(wildcard lua models examples spec) || status=1; \
	$(BUILD)/neap spec/lint.lua || status=1; \
	exit $$status

format:
	@clang-format -i $$(find host spec/c -name '*.[ch]')

browser: build
	@timeout -k 5 300 $(BUILD)/neap --slow 5000 spec/run.lua $(or $(wildcard spec/browser/*_spec.lua),none_spec.lua)

bench: build
	@.ci/packages redis-tools wrk openssl
	@for f in $(wildcard spec/bench/*.lua); do $(BUILD)/neap $$f || exit; done

soak: build
	@.ci/packages $(RUN_PACKAGES)
	@timeout -k 5 $$(($(SECONDS) + 300)) $(BUILD)/neap spec/soak.lua $(SECONDS)
	@SECONDS=$(SECONDS) timeout -k 5 $$(($(SECONDS) + 300)) $(BUILD)/neap spec/soak_model.lua

# The settings are the environment's.
fuzz: build
	@.ci/packages $(RUN_PACKAGES)
	@NEAP_REDIS=memory $(BUILD)/neap spec/fuzz_query.lua

growth: build
	@.ci/packages $(RUN_PACKAGES)
	@$(BUILD)/neap spec/bench/query_growth.lua $(ROWS)

deps:
	@.ci/packages $(BUILD_PACKAGES) $(RUN_PACKAGES)

test-deps:
	@.ci/packages $(BUILD_PACKAGES) $(RUN_PACKAGES) $(TEST_PACKAGES)

SHARE = $(DESTDIR)$(PREFIX)/share/doc/neap
MAN   = $(DESTDIR)$(PREFIX)/share/man
TYPES = $(DESTDIR)$(PREFIX)/share/neap/types
install: build
	install -D -m 755 $(BUILD)/neap $(DESTDIR)$(PREFIX)/bin/neap
	install -D -m 644 host/neap.h $(DESTDIR)$(PREFIX)/include/neap.h
	install -D -m 644 $(BUILD)/libneap.a $(DESTDIR)$(PREFIX)/lib/libneap.a
	install -D -m 755 $(BUILD)/$(SONAME) $(DESTDIR)$(PREFIX)/lib/libneap.so.$(VERSION)
	ln -sf libneap.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libneap.so
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig $(SHARE) $(MAN)/man3 $(TYPES)
	install -D -m 644 host/man/neap.1 $(MAN)/man1/neap.1
	sed -f host/man/neap.3.sed host/neap.h > $(MAN)/man3/neap.3
	NEAP_REDIS=memory $(BUILD)/neap --slow 0 -e \
	  'io.write(require("neap.annotations").text())' > $(TYPES)/neap.lua
	printf '%s\n' 'Name: neap' 'Description: A scripting host for Lua on Redis' \
	  'Version: $(VERSION)' 'Requires: luajit libuv' \
	  'Requires.private: hiredis openssl zlib' 'Cflags: -I$(PREFIX)/include' \
	  'Libs: -L$(PREFIX)/lib -lneap' \
	  'Libs.private: -llua5.1-luv -lm -lpthread -ldl' \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/neap.pc
	for f in LICENSE $(wildcard README.md */README.md examples/*.lua examples/embed/*); do \
	  install -D -m 644 $$f $(SHARE)/$$f || exit; done

clean:
	rm -rf $(BUILD)

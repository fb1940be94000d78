// pack: MessagePack, the part of it that is needed.
#include "base/pack.h"

static void put_be(struct buf *b, unsigned char tag, uint64_t v, int bytes) {
    char out[9];
    out[0] = (char)tag;
    for (int i = bytes; i > 0; i--) {
        out[i] = (char)(v & 0xff);
        v >>= 8;
    }
    buf_add(b, out, (size_t)bytes + 1);
}

void pack_array(struct buf *b, uint32_t count) {
    if (count < 16) {
        buf_addc(b, (char)(0x90 | count));
    } else {
        put_be(b, 0xdd, count, 4);
    }
}

void pack_map(struct buf *b, uint32_t pairs) {
    if (pairs < 16) {
        buf_addc(b, (char)(0x80 | pairs));
    } else {
        put_be(b, 0xdf, pairs, 4);
    }
}

size_t pack_array32(struct buf *b) {
    put_be(b, 0xdd, 0, 4);
    return b->len - 4;
}

void pack_set_array32(struct buf *b, size_t at, uint32_t count) {
    for (int i = 3; i >= 0; i--) {
        b->data[at + (size_t)i] = (char)(count & 0xff);
        count >>= 8;
    }
}

void pack_bytes(struct buf *b, const void *bytes, size_t len) {
    if (len < 32) {
        buf_addc(b, (char)(0xa0 | len));
    } else if (len < 65536) {
        put_be(b, 0xda, len, 2);
    } else {
        put_be(b, 0xdb, len, 4);
    }
    buf_add(b, bytes, len);
}

void pack_str(struct buf *b, const char *s) {
    pack_bytes(b, s, strlen(s));
}

void pack_int(struct buf *b, int64_t v) {
    if (v >= 0 && v < 128) {
        buf_addc(b, (char)v);
    } else {
        put_be(b, 0xd3, (uint64_t)v, 8);
    }
}

static unsigned char take_tag(struct unpack *u) {
    if (u->p >= u->end) {
        u->is_bad = true;
        return 0xc0;
    }
    return *u->p++;
}

static uint64_t take_be(struct unpack *u, int bytes) {
    uint64_t v = 0;
    if (u->end - u->p < bytes) {
        u->is_bad = true;
        u->p = u->end;
        return 0;
    }
    while (bytes-- > 0) {
        v = v << 8 | *u->p++;
    }
    return v;
}

bool unpack_is_array(const struct unpack *u) {
    return u->p < u->end &&
           ((*u->p & 0xf0) == 0x90 || *u->p == 0xdc || *u->p == 0xdd);
}

// take_count reads how much an array or a map has, by the tags of either.
static uint32_t take_count(struct unpack *u, unsigned char fix,
                           unsigned char tag16) {
    unsigned char tag = take_tag(u);
    if ((tag & 0xf0) == fix) {
        return tag & 0x0f;
    }
    if (tag == tag16 || tag == tag16 + 1) {
        return (uint32_t)take_be(u, tag == tag16 ? 2 : 4);
    }
    u->is_bad = true;
    return 0;
}

uint32_t unpack_array(struct unpack *u) {
    return take_count(u, 0x90, 0xdc);
}

uint32_t unpack_map(struct unpack *u) {
    return take_count(u, 0x80, 0xde);
}

int64_t unpack_int(struct unpack *u) {
    unsigned char tag = take_tag(u);
    if (tag < 0x80) {
        return tag;
    }
    if (tag >= 0xe0) {
        return (int8_t)tag;
    }
    switch (tag) {
    case 0xcc: return (int64_t)take_be(u, 1);
    case 0xcd: return (int64_t)take_be(u, 2);
    case 0xce: return (int64_t)take_be(u, 4);
    case 0xcf:
    case 0xd3: return (int64_t)take_be(u, 8);
    case 0xd0: return (int8_t)take_be(u, 1);
    case 0xd1: return (int16_t)take_be(u, 2);
    case 0xd2: return (int32_t)take_be(u, 4);
    default: u->is_bad = true; return 0;
    }
}

const char *unpack_bytes(struct unpack *u, size_t *len) {
    unsigned char tag = take_tag(u);
    uint64_t n = 0;
    if ((tag & 0xe0) == 0xa0) {
        n = tag & 0x1f;
    } else if (tag == 0xd9 || tag == 0xda || tag == 0xdb) {
        n = take_be(u, tag == 0xd9 ? 1 : tag == 0xda ? 2 : 4);
    } else {
        u->is_bad = true;
    }
    if (n > (uint64_t)(u->end - u->p)) {
        u->is_bad = true;
        n = 0;
    }
    const char *s = (const char *)u->p;
    u->p += n;
    *len = (size_t)n;
    return s;
}

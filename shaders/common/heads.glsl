// What becomes of the rows of queries, keys and values; include after the push constants and float16.glsl.
#ifndef ADD_TO_HEADS
#define ADD_TO_HEADS false  // true: they are added to what is there
#endif

// (cos, sin) of position * frequency i: the sum of two tabled angles, position / 256 * 256 and position % 256. A table
// of every position would be large, and a device's own sine is inexact for large angles.
vec2 rope_angle(uint position, uint i) {
    uint at = (position / 256 * 32 + i) * 2;
    vec2 c = vec2(a.rope.v[at], a.rope.v[at + 1]);
    at = ((a.rope_coarse + position % 256) * 32 + i) * 2;
    vec2 f = vec2(a.rope.v[at], a.rope.v[at + 1]);
    return vec2(c.x * f.x - c.y * f.y, c.y * f.x + c.x * f.y);
}

void store(U32 segment, uint row, uint i, vec2 value) {
    uint word = row * 32 + i;
    if (KV_F16) {
        if (ADD_TO_HEADS) value += unpack_halves(segment.v[word]);
        segment.v[word] = packHalf2x16(clamp(value, -65504.0, 65504.0));
    } else {
        if (ADD_TO_HEADS) value += uintBitsToFloat(uvec2(segment.v[2 * word], segment.v[2 * word + 1]));
        segment.v[2 * word] = floatBitsToUint(value.x);
        segment.v[2 * word + 1] = floatBitsToUint(value.y);
    }
}

// Rows i and i + 32 of a head, bias included, of the batch's token `index`: a pair that RoPE rotates.
void finish_head(uint head, uint i, uint index, Token token, vec2 y) {
    if (head < a.n_heads + a.n_kv_heads) {
        vec2 angle = rope_angle(token.position, i);
        y = vec2(y.x * angle.x - y.y * angle.y, y.y * angle.x + y.x * angle.y);
    }
    if (head < a.n_heads) {
        uint at = (index * a.n_heads + head) * HEAD_DIM + i;
        y *= 0.125;  // 1 / sqrt(64)
        if (ADD_TO_HEADS) y += vec2(a.q.v[at], a.q.v[at + 32]);
        a.q.v[at] = y.x;
        a.q.v[at + 32] = y.y;
    } else {
        Cache cache = a.caches.v[token.sequence];
        uint kv_head = head - a.n_heads;
        U32 segment = cache.segments.v[token.position / cache.slots % cache.n_segments];
        uint row = token.position % cache.slots * a.n_kv_heads + kv_head;
        if (kv_head < a.n_kv_heads)
            store(segment, cache.k_row + row, i, y);
        else
            store(segment, cache.v_row + row - a.n_kv_heads, i, y);
    }
}

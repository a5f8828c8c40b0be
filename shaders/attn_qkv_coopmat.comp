// As attn_qkv.comp, for a batch. Grid: (query heads + 2 KV heads, groups of TOKENS tokens).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/coopmat.glsl"

layout(constant_id = 4) const bool KV_F16 = true;
layout(push_constant) uniform Push { QkvCoopmatArgs a; };

#include "common/heads.glsl"

uint input_row(uint column) { return first_token() + column; }

float finish(uint row, uint column, vec2 sums) {
    uint head = gl_WorkGroupID.x, token = first_token() + column;
    vec2 bias = vec2(a.bias.v[head * HEAD_DIM + row], a.bias.v[head * HEAD_DIM + row + 32]);
    finish_head(head, row, token, a.tokens.v[token], sums * a.src.scales.v[token] + bias);
    return 0;
}

void gather(uint row, uint column, uint n) {}

void main() { multiply_coopmat(a.w, gl_WorkGroupID.x, a.src, min(TOKENS, a.src.n_tokens - first_token())); }

// As attn_out.comp, for a batch. Grid: (tiles of 64 rows, groups of TOKENS tokens).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/coopmat.glsl"
#include "common/residual.glsl"

layout(push_constant) uniform Push { OutCoopmatArgs a; };

shared float column_squares[32 / M * TOKENS];  // of each pair of parts of the tile, column by column

uint input_row(uint column) { return first_token() + column; }

float finish(uint row, uint column, vec2 sums) {
    uint token = first_token() + column;
    row += gl_WorkGroupID.x * TILE_ROWS;
    vec2 x = load_residual(a.r, token, row) + sums * a.src.scales.v[token] +
             vec2(a.bias.v[row], a.bias.v[row + 32]);
    return store_row(a.r, token, row, x.x) + store_row(a.r, token, row + 32, x.y);
}

void gather(uint row, uint column, uint n) {
    for (uint c = gl_SubgroupInvocationID; c < n; c += LANES) {
        float sum = 0;
        for (uint r = 0; r < M; r++) sum += results[results_at() + c * M + r];
        column_squares[row / M * TOKENS + column + c] = sum;
    }
}

void main() {
    uint n = min(TOKENS, a.src.n_tokens - first_token());
    multiply_coopmat(a.w, gl_WorkGroupID.x, a.src, n);
    barrier();
    for (uint t = gl_LocalInvocationID.x; t < n; t += WORKGROUP) {
        float sum = 0;
        for (uint part = 0; part < 32 / M; part++) sum += column_squares[part * TOKENS + t];
        a.r.squares.v[(first_token() + t) * a.r.n_squares + gl_WorkGroupID.x] = sum;
    }
}

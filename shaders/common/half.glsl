// Float16 vectors as words.
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require

uvec4 to_halves(vec4 low, vec4 high) {
    f16vec4 a = f16vec4(low), b = f16vec4(high);
    return uvec4(packFloat2x16(a.xy), packFloat2x16(a.zw), packFloat2x16(b.xy), packFloat2x16(b.zw));
}

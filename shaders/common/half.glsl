// Float16 vectors as words; include after float16.glsl.
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require

uvec4 to_halves(vec4 low, vec4 high) {
    f16vec4 a = f16vec4(low), b = f16vec4(high);
    return uvec4(flush_halves(packFloat2x16(a.xy)), flush_halves(packFloat2x16(a.zw)),
                 flush_halves(packFloat2x16(b.xy)), flush_halves(packFloat2x16(b.zw)));
}

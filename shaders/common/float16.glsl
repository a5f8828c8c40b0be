// Float16 numbers in words, for kernels that calculate in float32. Devices may take subnormal float16 numbers for zero, so
// no result may depend on one.

layout(constant_id = 31) const bool FLUSH = false;  // for tests: be such a device

// Two float16 numbers without their subnormals, if the device has to flush them.
uint flush_halves(uint two) {
    if (!FLUSH) return two;
    return two & (((two & 0x7c00u) != 0 ? 0xffffu : 0x8000u) | ((two & 0x7c000000u) != 0 ? 0xffff0000u : 0x80000000u));
}

vec2 unpack_halves(uint two) { return unpackHalf2x16(flush_halves(two)); }

// A float16 number whose subnormals count: a block's scale, which many weights are multiplied by.
float unpack_scale(uint half_bits) {
    bool subnormal = (half_bits & 0x7c00u) == 0;
    float magnitude = uintBitsToFloat(((half_bits & 0x7fffu) << 13) + ((subnormal ? 113u : 112u) << 23));
    if (subnormal) magnitude -= 6.103515625e-05;  // 2^-14
    return (half_bits & 0x8000u) != 0 ? -magnitude : magnitude;
}

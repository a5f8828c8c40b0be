# Writes the SPIR-V file IN as a C++ array named spirv_NAME to OUT.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "(..)(..)(..)(..)" "0x\\4\\3\\2\\1," words "${hex}")
string(LENGTH "${hex}" digits)
math(EXPR count "${digits} / 8")
file(WRITE ${OUT} "#include <cstddef>
#include <cstdint>
namespace gptoss {
extern const uint32_t spirv_${NAME}[] = {${words}};
extern const size_t spirv_${NAME}_words = ${count};
}
")

# Writes the file IN as a C++ array named NAME to OUT.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
file(WRITE ${OUT} "#include <cstddef>
namespace gptoss {
extern const unsigned char ${NAME}[] = {${bytes}};
extern const size_t ${NAME}_size = sizeof ${NAME};
}
")

// Where the programs are built without what downloads.
#include <stdexcept>

#include "model_path.h"

namespace hub {

std::string model_path(const std::string& model, bool) {
    if (model.starts_with("hf:"))
        throw std::runtime_error(model + ": this build downloads nothing: get the files of " + model.substr(3) +
                                 ", and give their folder");
    return model;
}

}  // namespace hub

// What is wrong with a request, in the shape in which OpenAI's clients expect it.
#pragma once

#include <nlohmann/json.hpp>

#include <stdexcept>
#include <string>

namespace server {

using Json = nlohmann::ordered_json;  // keeps the order of a tool's parameters, which the model is shown

class ApiError : public std::runtime_error {
  public:
    ApiError(int status, std::string type, std::string code, std::string param, const std::string& message)
        : std::runtime_error(message),
          status_(status),
          type_(std::move(type)),
          code_(std::move(code)),
          param_(std::move(param)) {}

    int status() const { return status_; }
    const std::string& code() const { return code_; }
    Json json() const {
        const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
        return {
            {"error", {{"message", what()}, {"type", type_}, {"param", or_null(param_)}, {"code", or_null(code_)}}}};
    }

  private:
    int status_;
    std::string type_, code_, param_;
};

// 400: the value of `param` is wrong.
inline ApiError invalid(const std::string& param, const std::string& message,
                        const std::string& code = "invalid_value") {
    return {400, "invalid_request_error", code, param, message};
}

// 400: `param` is well formed and asks for something that this server cannot do.
inline ApiError unsupported(const std::string& param, const std::string& message) {
    return invalid(param, message, "unsupported_parameter");
}

}  // namespace server

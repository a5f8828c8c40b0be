// The experts' activation of a gate (x) and its up (y).
float swiglu(vec2 y, float limit, float alpha) {
    float gate = min(y.x, limit), up = clamp(y.y, -limit, limit);
    return gate / (1 + exp(-alpha * gate)) * (up + 1);
}

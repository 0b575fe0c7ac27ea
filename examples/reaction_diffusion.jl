# Reaction and diffusion in Julia: the twin of the model in reaction_diffusion.ipynb, in 1-D to 3-D.
#
#     div(D grad u) + u (r - u) + q = 0,    nothing through the sides.

using AdjointGPU: AdjointGPU, Grid, Model, down, neighbour, register, spacing, up

struct Fisher{N} <: Model{N}
    grid::Grid{N}
end
AdjointGPU.parameters(::Fisher) = (; diffusivity=:cells, growth=:cells, arrivals=:cells)
AdjointGPU.equation(model::Fisher) = Balance(spacing(model.grid))

"R in one cell. It runs in kernels, on a GPU too: plain numbers only."
struct Balance{N}
    h::NTuple{N,Float64}
end
@inline function (balance::Balance{N})(u, c, I) where {N}
    D, here = @inbounds c.diffusivity[I...], u[I...]
    r = @inbounds here * (c.growth[I...] - here) + c.arrivals[I...]
    for d in 1:N, J in (down(I, d), up(I, d))
        mean = (D + neighbour(c.diffusivity, c, I, J)) / 2
        r += mean * (neighbour(u, c, I, J) - here) / oftype(here, balance.h[d])^2
    end
    return r
end

register("fisher", Fisher)

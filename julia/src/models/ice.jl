# Ice sheets and glaciers in the shallow-ice approximation: dH/dt = div(D grad S) + M, H >= 0.

const FLOATING = 1 - 917 / 1027     # of floating ice, the fraction above water
const FLATTEST = 1e-6               # slope below which D does not fall any more

"""
    Ice(grid; exponent=3, sea_level=nothing)

Shallow ice flow over a bed, 1-D or 2-D: in each cell

    R = sum_d (D_f (S_up - S) - D_f (S - S_down)) / h_d^2 + M,    S = B + H,    H >= 0,
    D = (a1 H^(n+2) + a2 H^n) |grad S|^(n-1),    M = min(beta (S - ELA), cap) + m,

with H_f that of the cell from which ice flows, and |grad S| of the difference across the face and
the mean of those beside it. The sides of the box are closed. With a `sea_level`, cells with a lower
bed and no `reference_thickness` are water, in which ice is lost, and thin ice below it floats.

Unknown: `thickness`. Parameters, one value a cell: `bed` (B), `rate_factor` (a1), `sliding` (a2),
`balance_lapse` (beta), `equilibrium_line` (ELA), `balance_cap` (cap), `balance` (m) and
`reference_thickness`.
"""
struct Ice{N} <: Model{N}
    grid::Grid{N}
    exponent::Float64
    sea_level::Union{Nothing,Float64}

    function Ice(grid::Grid{N}; exponent::Real=3, sea_level::Union{Nothing,Real}=nothing) where {N}
        N <= 2 || throw(ArgumentError("grid: found $N axes, expected 1 or 2"))
        exponent >= 1 || throw(ArgumentError("exponent: found $exponent, expected 1 or more"))
        return new{N}(grid, exponent, sea_level)
    end
end

lower(::Ice) = Bound(0, 1)
stencil(::Ice{N}) where {N} = box(Val(N))

parameters(::Ice) = (; bed=:cells, rate_factor=:cells, sliding=:cells, balance_lapse=:cells,
    equilibrium_line=:cells, balance_cap=:cells, balance=:cells, reference_thickness=:cells)

"B, the parameters of M, where there is water, a1 and a2 on each cell's upper faces, and the grid."
coefficients(::Ice{N}, field) where {N} = (; bed=field(), balance_lapse=field(), equilibrium_line=field(),
    balance_cap=field(), balance=field(), water=field(), deformation=ntuple(_ -> field(), N),
    sliding=ntuple(_ -> field(), N), inside=field())

function assembly(model::Ice{N}, ::Type{T}, block::Block{N}) where {N,T}
    everywhere = map(n -> 1:n, padded(block))   # neighbours' cells, too
    water = model.sea_level === nothing ? Pair[] : [Sea(T(model.sea_level)) => block.own]
    copied = Copied(:bed, :balance_lapse, :equilibrium_line, :balance_cap, :balance)
    return Pair[copied => everywhere; water; Inside(model.grid.shape, block.offset) => everywhere;
                [Mobility(d) => inner_faces(block, d) for d in 1:N]]
end

struct Sea{T}
    level::T
end
@inline function (sea::Sea)(c, m, I)
    @inbounds c.water[I...] = (m.bed[I...] < sea.level) & !(m.reference_thickness[I...] > 0)
    return
end
is_constant(::Sea) = true

struct Mobility
    axis::Int
end
@inline function (mobility::Mobility)(c, m, I)
    d = mobility.axis
    J = up(I, d)
    @inbounds c.deformation[d][I...] = arithmetic(m.rate_factor[I...], m.rate_factor[J...])
    @inbounds c.sliding[d][I...] = arithmetic(m.sliding[I...], m.sliding[J...])
    return
end

"div(D grad S) + M in one cell; in water, -H."
struct ShallowIce{N,E}
    h::NTuple{N,Float64}
    exponent::E
    level::Float64
end
# Whole exponents by multiplications.
equation(model::Ice) = ShallowIce(spacing(model.grid),
    isinteger(model.exponent) ? Val(Int(model.exponent)) : model.exponent,
    something(model.sea_level, -Inf))

@inline function (ice::ShallowIce)(H, c, I)
    here = @inbounds H[I...]
    @inbounds c.water[I...] > 0 && return -here
    S = surface(ice, H, c, I)
    rising = @inbounds c.balance_lapse[I...] * (S - c.equilibrium_line[I...])
    r = @inbounds min(rising, c.balance_cap[I...]) + c.balance[I...]
    return ice_divergence(r, ice, H, c, I, Val(length(I)))
end

@inline function surface(ice::ShallowIce, H, c, I)
    @inbounds thickness, bed = H[I...], c.bed[I...]
    return max(bed + thickness, oftype(bed, ice.level) + oftype(bed, FLOATING) * thickness)
end

"r + sum_d of the flows in through the faces along axes 1 to D."
@inline function ice_divergence(r, ice, H, c, I, ::Val{D}) where {D}
    D == 0 && return r
    r += ice_flow(ice, H, c, I, D)
    r -= ice_flow(ice, H, c, down(I, D), D)
    return ice_divergence(r, ice, H, c, I, Val(D - 1))
end

"(S_up - S) / h across the upper face of a cell; level beyond the sides."
@inline function slope_across(ice, H, c, I, d)
    J = up(I, d)
    rise = surface(ice, H, c, J) - surface(ice, H, c, I)
    return inside(c, I) & inside(c, J) ? rise / oftype(rise, ice.h[d]) : zero(rise)
end

"The mean slope across a cell."
@inline slope_along(ice, H, c, I, d) =
    (slope_across(ice, H, c, down(I, d), d) + slope_across(ice, H, c, I, d)) / 2

"D_f (S_up - S) / h^2 through the upper face of a cell."
@inline function ice_flow(ice::ShallowIce{N}, H, c, I, d) where {N}
    J = up(I, d)
    slope = slope_across(ice, H, c, I, d)
    square = slope^2 + oftype(slope, FLATTEST)^2
    if N == 2
        other = 3 - d
        beside = (slope_along(ice, H, c, I, other) + slope_along(ice, H, c, J, other)) / 2
        square += beside^2
    end
    source = slope < 0 ? @inbounds(H[I...]) : @inbounds(H[J...])
    mobility = @inbounds (c.deformation[d][I...] * source^2 + c.sliding[d][I...]) * power(source, ice.exponent)
    return mobility * speed(square, ice.exponent) * slope / oftype(slope, ice.h[d])
end

@inline power(base, ::Val{n}) where {n} = base^n
@inline power(base, n) = base^oftype(base, n)
"|grad S|^(n-1), from its square."
@inline speed(square, ::Val{n}) where {n} = isodd(n) ? square^((n - 1) ÷ 2) : sqrt(square)^(n - 1)
@inline speed(square, n) = square^(oftype(square, n - 1) / 2)

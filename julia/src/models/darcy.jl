# Steady single-phase flow in a porous medium: -div(K grad p) = Q.

"A point source: the cell that contains `position` gets Q = rate / cell volume."
struct Well{N}
    position::NTuple{N,Float64}
    rate::Float64
end
Well(position::NTuple{N,Real}, rate::Real) where {N} = Well{N}(position, rate)

const AXES = (:x, :y, :z)
const SIDES = Dict(Symbol(axis, :_, e) => (d, e === :max)
                   for (d, axis) in enumerate(AXES) for e in (:min, :max))

"""
    Darcy(grid; wells=[], face_mean=:arithmetic, sides=[])

Darcy flow on a cell-centred grid. In each cell

    R = sum_d (K_f (p_up - p) - K_f (p - p_down)) / h_d^2 + Q,    -div(K grad p) = Q,

K_f the `:arithmetic` or `:harmonic` mean of the permeabilities on either side of a face. The
sides of the box let nothing through, but those named in `sides` (`:x_min`, `:x_max`, ...), where
the pressure is `boundary_pressure` p_b, half a cell away: 2 K (p_b - p) / h^2. With no such side p
is known up to a constant, and gets zero mean.

Unknown: `pressure`. Parameters: `permeability`, one value a cell; `boundary_pressure`, one value
a face of the named sides, side after side.
"""
struct Darcy{N} <: Model{N}
    grid::Grid{N}
    wells::Vector{Well{N}}
    face_mean::Symbol
    sides::Vector{Symbol}

    function Darcy(grid::Grid{N}; wells=Well{N}[], face_mean::Symbol=:arithmetic, sides=Symbol[]) where {N}
        face_mean in (:arithmetic, :harmonic) ||
            throw(ArgumentError("face_mean: found $face_mean, expected arithmetic or harmonic"))
        for side in sides
            get(SIDES, side, (4,))[1] <= N || throw(ArgumentError("there is no side $side"))
        end
        foreach(w -> cell_containing(grid, w.position), wells)
        total = sum(w -> w.rate, wells; init=0.0)
        isempty(sides) && abs(total) > 1e-12 * sum(w -> abs(w.rate), wells; init=0.0) &&
            throw(ArgumentError("the wells' rates sum to $total, expected zero in a closed box"))
        return new{N}(grid, collect(Well{N}, wells), face_mean, collect(Symbol, sides))
    end
end

function from_table(::Type{Darcy}, grid::Grid{N}, table) where {N}
    # Positions in a table are in array order, (z, y, x).
    wells = [Well{N}(Tuple(Float64.(reverse(w["position"]))), w["rate"]) for w in table["wells"]]
    return Darcy(grid; wells, face_mean=Symbol(table["face_mean"]), sides=Symbol.(table["sides"]))
end

unknown(::Darcy) = :pressure
null_space(model::Darcy) = isempty(model.sides)
linear(::Darcy) = true

function parameters(model::Darcy)
    isempty(model.sides) && return (; permeability=:cells)
    return (; permeability=:cells, boundary_pressure=sum(side -> faces_of(model.grid, side), model.sides))
end

faces_of(grid::Grid, side::Symbol) = prod(grid.shape) ÷ grid.shape[SIDES[side][1]]

"Of each cell: K_f / h^2 on its upper faces, Q, and what flows to sides of fixed pressure."
function coefficients(model::Darcy{N}, field) where {N}
    closed = (; faces=ntuple(_ -> field(), N), source=field())
    return isempty(model.sides) ? closed : (; closed..., sink=field())
end

function assembly(model::Darcy{N}, ::Type{T}, block::Block{N}) where {N,T}
    h2 = T.(spacing(model.grid) .^ 2)
    mean = model.face_mean === :harmonic ? harmonic : arithmetic
    wells = map(model.wells) do well
        at = cell_containing(model.grid, well.position) .- block.offset .+ 1
        here = all(at .∈ block.own)
        Injection(T(well.rate / cell_volume(model.grid))) => map(i -> here ? (i:i) : (1:0), at)
    end
    faces = [Faces(d, mean, h2[d]) => inner_faces(block, d) for d in 1:N]
    sides = map(enumerate(model.sides)) do (k, side)
        d, upper = SIDES[side]
        before = sum(s -> faces_of(model.grid, s), model.sides[1:k-1]; init=0)
        FixedSide(model.grid, block, d, before, h2[d]) => layer(block, d, upper)
    end
    return Pair[wells; faces; sides]
end

arithmetic(a, b) = (a + b) / 2
harmonic(a, b) = 2 * a * b / (a + b)

struct Injection{T}
    rate::T
end
@inline function (well::Injection)(c, m, I)
    @inbounds c.source[I...] += well.rate
    return
end
is_constant(::Injection) = true

struct Faces{F,T}
    axis::Int
    mean::F
    h2::T
end
@inline function (faces::Faces)(c, m, I)
    K, d = m.permeability, faces.axis
    @inbounds c.faces[d][I...] = faces.mean(K[I...], K[up(I, d)...]) / faces.h2
    return
end

struct FixedSide{N,T}
    first::Int              # of the side's faces in boundary_pressure, less one
    strides::NTuple{N,Int}  # of the faces; 0 along the axis that the side is normal to
    offset::NTuple{N,Int}
    h2::T
end
function FixedSide(grid::Grid{N}, block::Block{N}, d::Int, before::Int, h2) where {N}
    sizes = Base.setindex(grid.shape, 1, d)
    strides = ntuple(k -> k == d ? 0 : prod(sizes[1:k-1]), N)
    return FixedSide(before, strides, block.offset, h2)
end
@inline function (side::FixedSide)(c, m, I)
    face = side.first + 1 + sum(side.strides .* (I .- 2 .+ side.offset))
    @inbounds begin
        conductance = 2 * m.permeability[I...] / side.h2
        c.sink[I...] += conductance
        c.source[I...] += conductance * m.boundary_pressure[face]
    end
    return
end

"div(K grad p) + Q in one cell."
struct Balance end
equation(::Darcy) = Balance()
@inline function (::Balance)(p, c, I)
    @inbounds begin
        r = c.source[I...]
        if haskey(c, :sink)
            r -= c.sink[I...] * p[I...]
        end
        return divergence(r, p, c.faces, I, Val(length(I)))
    end
end

"r + sum_d of the flows in through the faces along axes 1 to D."
@inline function divergence(r, p, faces, I, ::Val{D}) where {D}
    D == 0 && return r
    K, above, below = faces[D], up(I, D), down(I, D)
    @inbounds r += K[I...] * (p[above...] - p[I...])
    @inbounds r -= K[below...] * (p[I...] - p[below...])
    return divergence(r, p, faces, I, Val(D - 1))
end
